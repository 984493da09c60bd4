package pickle

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/plain"
)

// function is one of the few functions that old protocols call to make a plain
// value. It is a name and no more: reduce does what the function would.
type function uint8

const (
	toBytes   function = iota + 1 // _codecs.encode(str, "latin1")
	newBytes                      // bytes()
	newArray                      // bytearray(), of bytes or of str and "latin-1"
	newSet                        // set(list)
	newFrozen                     // frozenset(list)
)

var functions = map[string]function{
	"_codecs encode":        toBytes,
	"builtins bytes":        newBytes,
	"builtins bytearray":    newArray,
	"builtins set":          newSet,
	"builtins frozenset":    newFrozen,
	"__builtin__ bytes":     newBytes,
	"__builtin__ bytearray": newArray,
	"__builtin__ set":       newSet,
	"__builtin__ frozenset": newFrozen,
}

func (r *reader) global(op byte) error {
	var module, name string
	if op == opGlobal {
		first, err := r.line()
		if err != nil {
			return err
		}
		second, err := r.line()
		if err != nil {
			return err
		}
		module, name = string(first), string(second)
	} else {
		second, err := r.pop()
		if err != nil {
			return err
		}
		first, err := r.pop()
		if err != nil {
			return err
		}
		var ok, also bool
		module, ok = first.(string)
		name, also = second.(string)
		if !ok || !also {
			return errors.New("STACK_GLOBAL without a name")
		}
	}
	f, ok := functions[module+" "+name]
	if !ok {
		return fmt.Errorf("the class or function %.60q of the module %.60q: only plain values are read, and nothing is executed", name, module)
	}
	r.push(f)
	return nil
}

// reduce does what a function would do with its arguments.
func (r *reader) reduce() error {
	top, err := r.pop()
	if err != nil {
		return err
	}
	called, err := r.pop()
	if err != nil {
		return err
	}
	f, ok := called.(function)
	if !ok {
		return errors.New("REDUCE (a call) of what is no function: only plain values are read, and nothing is executed")
	}
	arguments, ok := top.(*node)
	if !ok || arguments.kind != tuple {
		return errors.New("REDUCE (a call) without a tuple of arguments")
	}
	v, err := r.call(f, arguments.items)
	if err != nil {
		return err
	}
	r.push(v)
	return nil
}

func (r *reader) call(f function, args []any) (any, error) {
	switch {
	case f == newBytes && len(args) == 0:
		return []byte{}, nil
	case f == newArray && len(args) == 0:
		return plain.ByteArray{}, nil
	case f == newArray && len(args) == 1:
		if b, ok := args[0].([]byte); ok {
			return plain.ByteArray(slices.Clone(b)), r.copying(len(b))
		}
	case (f == toBytes || f == newArray) && len(args) == 2:
		b, err := r.latin1(args[0], args[1])
		if f == newArray {
			return plain.ByteArray(b), err
		}
		return b, err
	case f == newSet || f == newFrozen:
		kind := set
		if f == newFrozen {
			kind = frozenSet
		}
		if len(args) == 0 {
			return &node{kind: kind}, nil
		}
		if from, ok := args[0].(*node); ok && len(args) == 1 && from.kind == list {
			if err := r.copying(len(from.items)); err != nil {
				return nil, err
			}
			return &node{kind: kind, items: slices.Clone(from.items)}, nil
		}
	}
	return nil, errors.New("REDUCE (a call) with arguments that make no plain value")
}

// latin1 returns the bytes that are written as the characters with their numbers.
func (r *reader) latin1(text, encoding any) ([]byte, error) {
	s, ok := text.(string)
	if !ok || encoding != "latin1" && encoding != "latin-1" {
		return nil, errors.New("REDUCE (a call) with an encoding other than latin1")
	}
	if err := r.copying(len(s)); err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(s))
	for _, c := range s {
		if c > 0xff {
			return nil, errors.New("bytes with a character that is no byte")
		}
		b = append(b, byte(c))
	}
	return b, nil
}

// copying counts what calls copy. No pickle that Python writes copies anything
// twice, so the count stays below twice the input's length, which allows for
// characters of two bytes; a short one that copies a large value again and again
// does not.
func (r *reader) copying(n int) error {
	if r.copied += n; r.copied > 2*len(r.data) {
		return errors.New("calls that copy more than the pickle holds")
	}
	return nil
}
