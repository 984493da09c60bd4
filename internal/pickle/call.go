package pickle

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/pyvalue"
)

// newArray is the only function that a pickle may call: bytearray, which
// protocol 4 has no instruction for. It is a name and no more: reduce does what
// the function would.
type newArray struct{}

func (r *reader) global() error {
	names, err := r.take(2)
	if err != nil {
		return err
	}
	module, ok := names[0].(string)
	name, also := names[1].(string)
	switch {
	case !ok || !also:
		return errors.New("STACK_GLOBAL without a name")
	case r.known != nil && r.known(module, name):
		r.push(Global{module, name})
		return nil
	case module != "builtins" || name != "bytearray":
		return fmt.Errorf("the class or function %.60q of the module %.60q: only plain values are read, and nothing is executed", name, module)
	}
	r.push(newArray{})
	return nil
}

// reduce does what bytearray would do with its arguments, and describes what
// another class or function makes of them.
func (r *reader) reduce() error {
	call, err := r.take(2)
	if err != nil {
		return err
	}
	_, ok := call[0].(newArray)
	made, isNode := call[0].(*node)
	if _, isGlobal := call[0].(Global); !ok && !isGlobal && (!isNode || made.kind != object) {
		return errors.New("REDUCE (a call) of something that is not a function: only plain values are read, and nothing is executed")
	}
	arguments, isNode := call[1].(*node)
	if !isNode || arguments.kind != tuple {
		return errors.New("REDUCE (a call) without a tuple of arguments")
	}
	if !ok {
		r.push(&node{kind: object, items: slices.Clone(call)})
		return nil
	}
	var content []byte
	if len(arguments.items) > 0 {
		content, ok = arguments.items[0].([]byte)
	}
	if !ok || len(arguments.items) > 1 {
		return errors.New("REDUCE (a call) with arguments that make no plain value")
	}
	// No pickle that Python writes copies anything twice; a short one that copies
	// a large value again and again does.
	if r.copied += len(content); r.copied > len(r.data) {
		return errors.New("calls that copy more than the pickle holds")
	}
	r.push(pyvalue.ByteArray(append([]byte{}, content...)))
	return nil
}
