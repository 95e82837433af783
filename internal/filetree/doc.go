// Package filetree backs up and restores the directories of a source: the files that an application's users put
// there. It is the files half of a source, beside the database.
//
// A capture stores each configured directory with names, modes, owners, times, symlinks and extended attributes. A
// restore never writes into a live directory: it builds the whole directory again in a private folder beside the
// root, reads that back, and then exchanges the two directories in one step of the file system. What was live lies
// in the private folder until the restore is accepted, so the exchange can be undone.
//
// Everything that is not live lies in one folder beside the root, never below it (a root may be served to the
// public):
//
//	<parent of root>/.remora/<source>.lock     held while something is staged, compared, switched or discarded
//	<parent of root>/.remora/<run>.json        the journal of a restore, written before each step
//	<parent of root>/.remora/<run>/b<attempt>/ the side that is not live
//
// Which side is live is never read from the journal: it is where the directories are (see docs/decisions, 0002).
//
// A directory that is mounted cannot be exchanged, or not without leaving somebody behind. With Config.ByEntry it stays
// and its entries are exchanged one by one; what is not live then lies in <directory>/.remora, on the same file system,
// and the lock and the journals in that folder of the first directory (see docs/decisions, 0012).
//
// A restore of some paths exchanges each of them as such an entry, at any depth, and a copy of files lies in one directory of
// its own, with its journal beside that (see docs/decisions, 0039).
package filetree
