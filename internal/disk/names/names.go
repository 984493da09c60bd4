// Package names maps every key of a directory store to its own file name.
//
// If a key consists of characters that Python's partd leaves unchanged (letters, digits and
// "-_.() "), its file name is the key, so that Python also finds it. Any other byte of a key is
// written as %XX. Python never writes a percent sign, so no two keys share a name. If the name
// would be too long, it is the key's hash instead, and a second file contains the key.
//
// Python's partd stores a key that is a tuple under a path. Its server joins the elements of the
// tuple to one key with "-|-", and so does this package.
//
// The store's other files, except the lock file, have names that begin with a percent sign and a
// lower-case letter. An encoded key never begins like this.
package names

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Names of files that do not belong to a key, and limits of names.
const (
	Lock     = ".lock"     // lock file, which Python also locks with flock
	Journal  = "%undo"     // undo record of the current operation
	Sessions = "%sessions" // state of each session
	Temp     = "%tmp"      // prefix of temporary files of the process that holds the lock
	maxLen   = 255         // maximum length of a file name on common file systems
	hexLen   = 2 * 32      // length of a SHA-256 hash in hexadecimal

	valuePrefix = "%h" // prefix of the file with the value of a long key; the key's hash follows
	keyPrefix   = "%k" // prefix of the file that contains a long key; the key's hash follows
	emptyName   = "%"  // name of the empty key's file
	hexDigits   = "0123456789ABCDEF"
)

// Kind is the kind of a file, as shown by its name.
type Kind int

const (
	Foreign Kind = iota // not written by this store
	Short               // contains a value; the file's name encodes the key
	Long                // contains the value of a long key; another file contains the key
	Own                 // any other file of the store
)

// Scheme converts keys to file names and back.
type Scheme struct {
	// FoldsCase means that the file system ignores case. Capital letters are then written as
	// %XX.
	FoldsCase bool
}

// Name returns the file name of a key.
func (s Scheme) Name(key string) string {
	if s.isPlain(key) {
		return key
	}
	if key == "" {
		return emptyName
	}
	if len(key) <= maxLen {
		if name := s.escape(key); len(name) <= maxLen {
			return name
		}
	}
	return Hashed(key)
}

// Hashed returns a file name that contains the key's hash. Name returns it if the key's plain or
// escaped name would be too long.
func Hashed(key string) string {
	sum := sha256.Sum256([]byte(key))
	return valuePrefix + hex.EncodeToString(sum[:])
}

// Parse returns the kind of a file and, if it is Short, the key. An escaped name is Short only if
// Name returns exactly this name for the key. Otherwise it is Foreign, even if it can be decoded.
func (s Scheme) Parse(name string) (key string, kind Kind) {
	switch {
	case s.isPlain(name):
		return name, Short
	case name == Lock, name == Journal, name == Sessions, strings.HasPrefix(name, Temp):
		return "", Own
	case name == emptyName:
		return "", Short
	case strings.HasPrefix(name, keyPrefix):
		return "", kindIfHash(name[len(keyPrefix):], Own)
	case strings.HasPrefix(name, valuePrefix):
		return "", kindIfHash(name[len(valuePrefix):], Long)
	}
	key, ok := unescape(name)
	if !ok || s.Name(key) != name {
		return "", Foreign
	}
	return key, Short
}

// KeyFile returns the name of the file that contains a long key, given the name of the file with its
// value. ok is false if name has another form.
func KeyFile(name string) (keyFile string, ok bool) {
	if len(name) != len(valuePrefix)+hexLen || !strings.HasPrefix(name, valuePrefix) {
		return "", false
	}
	return keyPrefix + name[len(valuePrefix):], true
}

// isPlain reports whether a key can be used unchanged as a file name.
func (s Scheme) isPlain(key string) bool {
	if key == "" || len(key) > maxLen || isSpecial(key) {
		return false
	}
	for i := range len(key) {
		if !s.isSafe(key[i]) {
			return false
		}
	}
	return true
}

const (
	tupleSep    = "-|-"   // joins the elements of a tuple, as in Python's server
	maxTupleLen = 1 << 10 // maximum length of a tuple's key, in bytes
)

// TuplePath returns the slash-separated path of the file in which Python stores a tuple. key is the
// tuple's key in Python's server. ok is false if key is not the key of a tuple.
func (s Scheme) TuplePath(key string) (path string, ok bool) {
	if len(key) > maxTupleLen || !strings.Contains(key, tupleSep) {
		return "", false
	}
	return s.join(strings.Split(key, tupleSep), "/")
}

// TupleKey returns the key of the tuple whose file is at path. ok is false if path is not the path of
// a tuple.
func (s Scheme) TupleKey(path string) (key string, ok bool) {
	key, ok = s.join(strings.Split(path, "/"), tupleSep)
	if len(key) > maxTupleLen {
		return "", false
	}
	return key, ok
}

func (s Scheme) join(elements []string, sep string) (joined string, ok bool) {
	for _, e := range elements {
		if !s.isPlain(e) {
			return "", false
		}
	}
	return strings.Join(elements, sep), true
}

func isSpecial(key string) bool { return key == "." || key == ".." || key == Lock }

func (s Scheme) isSafe(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		return true
	case 'A' <= c && c <= 'Z':
		return !s.FoldsCase
	}
	return c == '-' || c == '_' || c == '.' || c == '(' || c == ')' || c == ' '
}

func (s Scheme) escape(key string) string {
	name := make([]byte, 0, len(key)+16)
	for i := range len(key) {
		if c := key[i]; s.isSafe(c) && (i > 0 || !isSpecial(key)) {
			name = append(name, c)
		} else {
			name = append(name, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(name)
}

func unescape(name string) (key string, ok bool) {
	b := make([]byte, 0, len(name))
	for i := 0; i < len(name); i++ {
		if name[i] != '%' {
			b = append(b, name[i])
			continue
		}
		if i+2 >= len(name) {
			return "", false
		}
		hi, lo := strings.IndexByte(hexDigits, name[i+1]), strings.IndexByte(hexDigits, name[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	return string(b), true
}

func kindIfHash(s string, kind Kind) Kind {
	if len(s) != hexLen || strings.Trim(s, "0123456789abcdef") != "" {
		return Foreign
	}
	return kind
}
