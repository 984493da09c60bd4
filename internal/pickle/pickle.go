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

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/pyvalue"
)

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

// Global is the name of a class or a function.
type Global struct{ Module, Name string }

// Object describes what Python would make by calling a class or a function, or by
// making an object of the class. Nothing is called here.
type Object struct {
	Class any // a Global, or the *Object that the call of a function returns
	Args  pyvalue.Tuple
	State any // nil if there is none
}

// Call describes a call, for writing.
func Call(module, name string, args ...any) *Object {
	return &Object{Class: Global{module, name}, Args: args}
}

// Name returns the name of the class or function, without the module; of what a
// call returns it is that of the called.
func (o *Object) Name() string {
	switch class := o.Class.(type) {
	case Global:
		return class.Name
	case *Object:
		return class.Name()
	}
	return ""
}

// setState gives the object on top of the stack its state.
func (r *reader) setState() error {
	elements, err := r.take(2)
	if err != nil {
		return err
	}
	o, ok := elements[0].(*node)
	if !ok || o.kind != object || len(o.items) != 2 {
		return errors.New("BUILD (the state of an object) of what is no object, or has a state")
	}
	o.items = append(slices.Clip(o.items), elements[1])
	r.push(o)
	return nil
}

func (w *writer) object(o *Object) error {
	if err := w.value(o.Class, false); err != nil {
		return err
	}
	if err := w.tuple(o.Args, false); err != nil {
		return err
	}
	w.buf = append(w.buf, opReduce)
	return nil
}
