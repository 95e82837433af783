// Package config turns remora.yaml and the environment into plain, validated structs.
//
// It is strict on purpose: a key that it does not know, a key given twice or a value that makes no sense is an error
// that names the line, the key and what to write instead, and all of them are told at once. Passwords never stand in
// the file; it names where they lie (a file of mode 0600 or an environment variable), and they are read at the moment
// they are needed. Nothing here talks to a server.
package config
