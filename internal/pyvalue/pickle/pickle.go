// Package pickle reads and writes Python's pickles of plain values (see package pyvalue). It writes
// protocol 5 and reads protocols 4 and 5: Python's partd writes the highest protocol of its
// Python, which has been 4 or 5 since Python 3.4.
//
// Reading executes nothing. A pickle is a program for a small stack machine, which can call any
// Python function. This package supports only the instructions that build plain values. Protocol 4
// has no instruction for a bytearray and calls the type bytearray instead; this is the only call
// that the package supports. Every other function, class, or instruction is an error that names it.
//
// Memory is bounded: a value uses less than MaxGrowth times the memory of its pickle,
// whatever lengths the pickle claims. A container that a pickle refers to several times is
// also shared in Go. MaxElements counts every reference, so that a few bytes cannot stand for
// a value that takes hours to walk through. A container that contains itself, or is nested
// deeper than pyvalue.MaxDepth, is an error.
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
	// MaxGrowth is the maximum memory of a value, as a multiple of its pickle's length, apart from
	// a few kilobytes.
	MaxGrowth = 384
	// MaxElements is the maximum number of elements in a value. The elements of a shared
	// container count once for each reference to it.
	MaxElements = 1 << 26
)

// Error is an error at an offset in a pickle.
type Error struct {
	Offset int // offset of the instruction, in bytes
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("pickle, byte %d: %v", e.Offset, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Global is the name of a class or a function.
type Global struct{ Module, Name string }

// Object describes an object that Python would create by calling a class or a function. This
// package does not call it.
type Object struct {
	Class any // a Global, or an *Object that stands for the result of a call
	Args  pyvalue.Tuple
	State any // nil if the object has no state
}

// Call returns an Object that describes a call to a class or a function. Append can write it.
func Call(module, name string, args ...any) *Object {
	return &Object{Class: Global{module, name}, Args: args}
}

// Name returns the name of the class or function, without the module. If Class is the
// result of a call, Name is the name of the called function.
func (o *Object) Name() string {
	switch class := o.Class.(type) {
	case Global:
		return class.Name
	case *Object:
		return class.Name()
	}
	return ""
}

func (r *reader) setState() error {
	elements, err := r.popItems(2)
	if err != nil {
		return err
	}
	o, ok := elements[0].(*node)
	if !ok || o.kind != object || len(o.items) != 2 {
		return errors.New("BUILD (the state of an object) without an object, or for an object that already has a state")
	}
	o.items = append(slices.Clip(o.items), elements[1])
	r.push(o)
	return nil
}

func (w *writer) writeObject(o *Object) error {
	if err := w.writeValue(o.Class, false); err != nil {
		return err
	}
	if err := w.writeTuple(o.Args, false); err != nil {
		return err
	}
	w.buf = append(w.buf, opReduce)
	return nil
}
