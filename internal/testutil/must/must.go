// Package must ends a test with Fatal if a call fails that has to succeed, and reports an error if a call does not
// fail that has to.
//
//	must.Do(t, os.Mkdir(dir, 0o777))
//	f := must.Get(os.Open(name))(t)
//	must.Fail(t, os.Mkdir(dir, 0o777), fs.ErrExist, "creating a directory again")
package must

import (
	"errors"
	"fmt"
	"strings"
)

// TB is the part of testing.TB that the package needs. rapid's tests have it too.
type TB interface {
	Helper()
	Error(args ...any)
	Fatal(args ...any)
}

// Do ends the test if err is not nil.
func Do(t TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Check reports err if it is not nil, and returns whether it is nil. It is for goroutines other than the test's, which
// must not end the test, and for errors after which the test goes on.
func Check(t TB, err error) bool {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

// Get returns a function that returns v, or ends the test if err is not nil. It takes the test apart from v and err,
// because Go passes the results of a call on only if the other call has no further arguments.
func Get[T any](v T, err error) func(TB) T {
	return func(t TB) T {
		t.Helper()
		Do(t, err)
		return v
	}
}

// Err returns the error of a call whose other result does not matter:
//
//	done <- must.Err(f.Write(data))
func Err[T any](_ T, err error) error { return err }

// Fail reports an error unless err is as wanted: it wraps want, if want is an error, or its text contains want. The test
// goes on. format and args say which call failed. It returns whether err is as wanted.
func Fail(t TB, err error, want any, format string, args ...any) bool {
	t.Helper()
	ok := false
	switch want := want.(type) {
	case nil:
		ok = err == nil
	case error:
		ok = errors.Is(err, want)
	case string:
		ok = err != nil && strings.Contains(err.Error(), want)
	}
	if !ok {
		t.Error(fmt.Sprintf(format, args...) + fmt.Sprintf(": got error %v, want %v", err, want))
	}
	return ok
}
