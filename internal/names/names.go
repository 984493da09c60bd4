// Package names gives every key of a directory store its own file name.
//
// A key made only of the characters that Python's partd leaves as they are
// (letters, digits and "-_.() ") is its own file name, so that both find it.
// In every other key each other byte is written as %XX. Python never writes a
// percent sign, so no two keys meet. A name that would be too long for a file
// is replaced by the key's hash; a second file holds the key itself.
//
// Python makes a path of a tuple. Where it joins the elements to a key, in its server, it puts
// "-|-" between them: so they are spelled here.
//
// The store's own files begin with a percent sign and a lower-case letter that
// is no hexadecimal digit: no key is ever encoded so.
package names

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Names of the store's own files.
const (
	Lock     = ".lock"     // flock is taken on it, by Python too
	Journal  = "%undo"     // the record of the operation under way
	Sessions = "%sessions" // what is remembered of each session
	Temp     = "%tmp"      // a file under construction; only the lock's holder makes it
	long     = "%h"        // and the hash of a long key: its value
	longKey  = "%k"        // and the hash of a long key: the key
	empty    = "%"         // the empty key
	maxLen   = 255         // bytes in a file name, on every file system that matters
	hexLen   = 2 * 32      // a SHA-256 in hexadecimal
	upper    = "0123456789ABCDEF"
)

// Kind tells what a file name stands for.
type Kind int

const (
	Foreign Kind = iota // nothing that this store writes
	Short               // the value of a key that the name tells
	Long                // the value of a key that another file tells
	Own                 // a file of the store that holds no value
)

// Scheme turns keys into file names and back.
type Scheme struct {
	// FoldsCase says that the directory takes "A" and "a" for one name, so that
	// capitals are written as %XX.
	FoldsCase bool
}

// Name returns the file name of a key.
func (s Scheme) Name(key string) string {
	if s.plain(key) {
		return key
	}
	if key == "" {
		return empty
	}
	if len(key) <= maxLen {
		if name := s.escape(key); len(name) <= maxLen {
			return name
		}
	}
	sum := sha256.Sum256([]byte(key))
	return long + hex.EncodeToString(sum[:])
}

// Parse tells what a file name stands for, and the key, if it is Short. A name
// that no key is given is Foreign, even where it could be decoded.
func (s Scheme) Parse(name string) (key string, kind Kind) {
	switch {
	case s.plain(name):
		return name, Short
	case name == Lock, name == Journal, name == Sessions, strings.HasPrefix(name, Temp):
		return "", Own
	case name == empty:
		return "", Short
	case strings.HasPrefix(name, longKey):
		return "", hashed(name[len(longKey):], Own)
	case strings.HasPrefix(name, long):
		return "", hashed(name[len(long):], Long)
	}
	key, ok := unescape(name)
	if !ok || s.Name(key) != name {
		return "", Foreign
	}
	return key, Short
}

// KeyFile returns the name of the file that holds a long key, given the name of
// the file that holds its value; ok is false for every other name.
func KeyFile(name string) (keyFile string, ok bool) {
	if len(name) != len(long)+hexLen || !strings.HasPrefix(name, long) {
		return "", false
	}
	return longKey + name[len(long):], true
}

// plain tells whether a key is its own file name.
func (s Scheme) plain(key string) bool {
	if key == "" || len(key) > maxLen || special(key) {
		return false
	}
	for i := range len(key) {
		if !s.safe(key[i]) {
			return false
		}
	}
	return true
}

const (
	tupleSep = "-|-" // between the elements of a tuple, where Python's server joins them to a key
	maxTuple = 1 << 10
)

// TuplePath returns the path, with slashes, that Python's File gives a tuple, of which the
// key is joined as Python's server does. ok is false where Python would give another.
func (s Scheme) TuplePath(key string) (path string, ok bool) {
	if len(key) > maxTuple || !strings.Contains(key, tupleSep) {
		return "", false
	}
	return s.join(strings.Split(key, tupleSep), "/")
}

// TupleKey returns the key of a file in a subdirectory.
func (s Scheme) TupleKey(path string) (key string, ok bool) {
	if key, ok = s.join(strings.Split(path, "/"), tupleSep); len(key) > maxTuple {
		return "", false
	}
	return key, ok
}

func (s Scheme) join(elements []string, sep string) (joined string, ok bool) {
	for _, e := range elements {
		if !s.plain(e) {
			return "", false
		}
	}
	return strings.Join(elements, sep), true
}

func special(key string) bool { return key == "." || key == ".." || key == Lock }

func (s Scheme) safe(c byte) bool {
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
		if c := key[i]; s.safe(c) && (i > 0 || !special(key)) {
			name = append(name, c)
		} else {
			name = append(name, '%', upper[c>>4], upper[c&15])
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
		hi, lo := strings.IndexByte(upper, name[i+1]), strings.IndexByte(upper, name[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	return string(b), true
}

// hashed returns kind if s is a hash as the store writes it.
func hashed(s string, kind Kind) Kind {
	if len(s) != hexLen || strings.Trim(s, "0123456789abcdef") != "" {
		return Foreign
	}
	return kind
}
