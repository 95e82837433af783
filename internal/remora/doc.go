// Package remora holds the words of the domain: what a source, a backup, a component and a restore are, what may go
// wrong with them, and the names under which the parts of the program meet on the wire. It imports the standard
// library alone, so that every other package can speak these words without dragging anything in.
package remora
