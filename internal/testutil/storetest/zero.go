package storetest

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"runtime/debug"
	"slices"
	"testing"
	"time"
)

// CheckZero calls every method of the values with a context and zero arguments, which must cause errors. It fails the
// test if a method panics, does not return, or has an error result and returns nil for it. The methods in mayReturnNil
// may return nil; "*" stands for all methods.
func CheckZero(t *testing.T, values map[string]any, mayReturnNil ...string) {
	t.Helper()
	for name, zero := range values {
		v := reflect.ValueOf(zero)
		for i := range v.NumMethod() {
			method := v.Type().Method(i).Name
			t.Run(name+"/"+method, func(t *testing.T) {
				defer failOnPanic(t)
				watchdog := time.AfterFunc(time.Minute, func() { panic(name + "." + method + " does not return") })
				defer watchdog.Stop()
				v := v
				if v.Kind() == reflect.Pointer && !v.IsNil() && v.Elem().IsZero() {
					// call each method on a new value: a panic in another one may have left a mutex locked
					v = reflect.New(v.Type().Elem())
				}
				err, fails := call(t.Context(), v.Method(i))
				if errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if fails && err == nil && !slices.Contains(mayReturnNil, method) && !slices.Contains(mayReturnNil, "*") {
					t.Error("the call returned no error")
				}
			})
		}
	}
}

// CheckErrors calls functions, and fails the test if one panics or returns nil.
func CheckErrors(t *testing.T, calls map[string]func() error) {
	t.Helper()
	for name, f := range calls {
		t.Run(name, func(t *testing.T) {
			defer failOnPanic(t)
			err := f()
			if err == nil {
				t.Error("the call returned no error")
			}
			t.Log(err)
		})
	}
}

// FirstError returns the first error from an iterator.
func FirstError[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

// ErrorOfFirst returns the error of the first element of an iterator, or nil if that is a value.
func ErrorOfFirst[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		return err
	}
	return nil
}

func failOnPanic(t *testing.T) {
	if p := recover(); p != nil {
		t.Fatalf("panic: %v\n%s", p, debug.Stack())
	}
}

// call calls a method with a context and zero arguments (but "a" for strings), and drains a returned
// iterator. It returns the error, and reports whether the method can return one.
func call(ctx context.Context, m reflect.Value) (err error, canFail bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var args []reflect.Value
	for i := range m.Type().NumIn() {
		in := m.Type().In(i)
		switch {
		case in == reflect.TypeFor[context.Context]():
			args = append(args, reflect.ValueOf(ctx))
		case in.Kind() == reflect.String:
			args = append(args, reflect.ValueOf("a").Convert(in))
		case m.Type().IsVariadic() && i == m.Type().NumIn()-1:
			args = append(args, reflect.Zero(in.Elem()))
		default:
			args = append(args, reflect.Zero(in))
		}
	}
	for _, out := range m.Call(args) {
		if out.Type() == reflect.TypeFor[error]() {
			canFail = true
			err, _ = out.Interface().(error)
		}
		if out.Kind() == reflect.Func && out.Type().CanSeq2() && !out.IsNil() {
			canFail = true
			for _, e := range out.Seq2() {
				if e, ok := e.Interface().(error); ok {
					err = e
				}
			}
		}
	}
	return err, canFail
}
