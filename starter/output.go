package main

import "encoding/json"

// printJSON writes v as one line. Every document of -o json goes through here.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.Out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
