// Package pickle reads and writes Python's pickles of plain values, which
// package pyvalue lists. It writes protocol 5, and reads 5 and 4: Python's partd
// writes the highest that its Python has, which since 3.4 is one of these.
//
// Reading executes nothing: a pickle is a program for a small stack machine
// which can call any function of Python; what is read here are the instructions
// that build plain values. Protocol 4 has none for bytearray and calls the type
// instead; that call is known and done here. Every other function, class, or
// instruction is an error that names it.
//
// Memory is bounded: a value takes less than MaxGrowth times the bytes that it
// is read from, whatever they say. A container that is used in several places
// is one in Go, too, and read once; so that a few bytes cannot stand for a value
// that takes hours to walk through, the places are counted, up to MaxElements.
// A container that holds itself, or is nested deeper than pyvalue.MaxDepth, is an
// error.
//
// The format is described in Lib/pickletools.py of CPython.
package pickle

import "fmt"

const (
	// MaxGrowth is how many times the length of a pickle its value may take in
	// memory, beside some kilobytes.
	MaxGrowth = 384
	// MaxElements is how many elements a value may have, those within elements
	// counted each time that a walk through the value would come to them.
	MaxElements = 1 << 26
)

// Error says where in a pickle something is wrong.
type Error struct {
	Offset int // of the instruction, in bytes
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("pickle, byte %d: %v", e.Offset, e.Err) }

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }
