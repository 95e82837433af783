package remora

import (
	"fmt"
	"io"
)

// Secret is a password or a key. It prints as *** in every format verb, in slog and in JSON; Reveal is the one way to
// its text.
type Secret string

const redacted = "***"

// Reveal returns the text of the secret.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret.
func (s Secret) String() string { return redacted }

// Format hides the secret in every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText hides the secret in JSON, YAML and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// SecretFunc reads a secret at the moment it is needed, so that a rotated password is met by the next connection
// (S21).
type SecretFunc func() (Secret, error)

// NextFile is where the password lies that the password file is about to hold (S13).
func NextFile(file string) string { return file + ".next" }
