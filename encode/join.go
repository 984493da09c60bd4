package encode

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Concat joins slices: it is the Join of a codec for a slice type.
func Concat[S ~[]E, E any](pieces []S) (S, error) {
	if len(pieces) == 1 {
		return pieces[0], nil
	}
	return slices.Concat(pieces...), nil
}

// JoinOf returns the join of a type. It concatenates slices and strings. For any
// other type, a single value joins to itself, no value to the zero value, and
// several values are an [ErrNoJoin].
func JoinOf[T any]() func([]T) (T, error) {
	switch t := reflect.TypeFor[T](); t.Kind() {
	case reflect.Slice:
		return func(pieces []T) (T, error) { return concatAny(t, pieces), nil }
	case reflect.String:
		return func(pieces []T) (joined T, _ error) {
			var b strings.Builder
			for i := range pieces {
				b.WriteString(reflect.ValueOf(&pieces[i]).Elem().String())
			}
			reflect.ValueOf(&joined).Elem().SetString(b.String())
			return joined, nil
		}
	}
	return func(pieces []T) (joined T, _ error) {
		if len(pieces) > 1 {
			return joined, fmt.Errorf("%d values of type %T: %w", len(pieces), joined, ErrNoJoin)
		}
		if len(pieces) == 1 {
			joined = pieces[0]
		}
		return joined, nil
	}
}

// concatAny is Concat for a type of which only the program that runs knows that
// it is a slice.
func concatAny[T any](t reflect.Type, pieces []T) (joined T) {
	if len(pieces) == 1 {
		return pieces[0]
	}
	total := 0
	for i := range pieces {
		total += reflect.ValueOf(&pieces[i]).Elem().Len()
	}
	if total == 0 {
		return joined
	}
	all := reflect.MakeSlice(t, 0, total)
	for i := range pieces {
		all = reflect.AppendSlice(all, reflect.ValueOf(&pieces[i]).Elem())
	}
	reflect.ValueOf(&joined).Elem().Set(all)
	return joined
}
