package remora

import (
	"slices"
	"strings"
)

// Selection says what of a backup a restore brings back, and where to.
type Selection struct {
	// Tables are the only tables to restore, "orders" or "shop.orders" where there are several schemas. Empty means all.
	Tables []string `json:"tables,omitempty"`
	// Paths are the only files and directories to restore, relative to the root of the files, with all that is below them:
	// "receipts/2026". Empty means all.
	Paths []string `json:"paths,omitempty"`
	// To is a schema, or for files an absolute directory, that does not exist yet, in which all is built instead of in the
	// live place. Nothing is switched then, and nothing can be undone: to drop it is all there is to it.
	To string `json:"to,omitempty"`
}

// All tells whether everything is meant, in its own place.
func (s Selection) All() bool { return len(s.Tables) == 0 && len(s.Paths) == 0 && s.To == "" }

// With adds to the components that were asked for those of which something is chosen.
func (s Selection) With(kinds []Kind) []Kind {
	kinds = slices.Clone(kinds)
	if len(s.Tables) > 0 && !slices.Contains(kinds, Database) {
		kinds = append(kinds, Database)
	}
	if len(s.Paths) > 0 && !slices.Contains(kinds, Files) {
		kinds = append(kinds, Files)
	}
	return kinds
}

// Place is the component that To is a place of: directories are absolute, and no schema has such a name.
func (s Selection) Place() Kind {
	if strings.HasPrefix(s.To, "/") {
		return Files
	}
	return Database
}

// Where names To for people; empty when there is none.
func (s Selection) Where() string {
	switch {
	case s.To == "":
		return ""
	case s.Place() == Files:
		return "directory " + s.To
	default:
		return "schema " + s.To
	}
}

// Preview is how live data differs from a part: what a restore would change. It never holds row data.
type Preview struct {
	// Tables are those that differ, at most MaxPreviewed of them; Equal counts those that do not.
	Tables []TablePreview `json:"tables,omitempty"`
	Equal  int            `json:"equal"`
	// More counts the tables that differ and are not in Tables.
	More int `json:"more,omitempty"`
	Shape
	// Directories are those of the files; Names are the first entries that differ: "+ receipts/1.pdf" would come, "- " go,
	// "~ " change.
	Directories []DirectoryPreview `json:"directories,omitempty"`
	Names       []string           `json:"names,omitempty"`
	// Compared counts what was read of the live data.
	Compared Summary `json:"compared"`
}

// Unnamed counts the entries of files that differ and are not in Names.
func (p Preview) Unnamed() int64 {
	n := -int64(len(p.Names))
	for _, d := range p.Directories {
		n += d.Added + d.Removed + d.Changed
	}
	return n
}

// Shape is how definitions differ from those of a part: what is told without reading a row.
type Shape struct {
	// Creates, Replaces and Drops name the objects that a restore would create, replace and drop: "view shop.sales".
	Creates  []string `json:"creates,omitempty"`
	Replaces []string `json:"replaces,omitempty"`
	Drops    []string `json:"drops,omitempty"`
	// Schema is the difference of the definitions as text: lines that begin with + would come, those with - would go.
	Schema string `json:"schema,omitempty"`
}

// Space is what a restore takes on one file system, and what is free there.
type Space struct {
	// At is a directory on it, and For what is put there: "the stage".
	At  string `json:"at"`
	For string `json:"for"`
	// Need is about how much, in bytes; Free is nil where it cannot be seen from here.
	Need int64  `json:"need"`
	Free *int64 `json:"free,omitempty"`
}

// MaxPreviewed bounds the lists of a Preview and of a Shape: a history must stay small.
const MaxPreviewed = 100

// TablePreview is how one table differs.
type TablePreview struct {
	Name string `json:"name"`
	// Now and Then are its rows, live and in the backup; one that is not there has none.
	Now  int64 `json:"now"`
	Then int64 `json:"then"`
	// Ranges were compared, Differ of them differ.
	Ranges int `json:"ranges"`
	Differ int `json:"differ"`
	// Added rows would come, Removed rows would go, Changed rows have the same key and other values.
	Added   int64 `json:"added"`
	Removed int64 `json:"removed"`
	Changed int64 `json:"changed"`
	// Counted tells that the rows could not be told apart: the columns differ, or too many rows do. Added, Removed and
	// Changed are then not known, or too few.
	Counted bool `json:"counted,omitempty"`
}

// DirectoryPreview is how one directory differs, by its entries: files, symlinks and folders.
type DirectoryPreview struct {
	Name string `json:"name"`
	// Now and Then are its entries, live and in the backup.
	Now  int64 `json:"now"`
	Then int64 `json:"then"`
	// Added entries would come, Removed would go, Changed have other bytes, another mode or another owner.
	Added   int64 `json:"added"`
	Removed int64 `json:"removed"`
	Changed int64 `json:"changed"`
}
