package pickle

import (
	"errors"
	"slices"

	"github.com/go-partd/partd/internal/pyvalue"
)

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

// object appends the instructions that make an object.
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
