package parallel

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
)

// Panic is the error for a panic: a fault in the program or in a library, often caused by unexpected data of one table.
type Panic struct {
	Value any    // argument of the panic
	Stack []byte // stack of the goroutine that panicked
}

func (p *Panic) Error() string {
	return fmt.Sprintf("a fault in the program or in the data: %v", p.Value)
}

// Catch calls f and returns its error, or a [*Panic] if f panics. Goroutines and loops over tables call it, because an
// uncaught panic would end the process, and with it the work for all tables. So do callers of Iceberg's and Arrow's
// libraries, which panic on some invalid files. Locks that f takes must be released by defer.
func Catch(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Panic{p, debug.Stack()}
		}
	}()
	return f()
}

// Reason describes a panic while a file is read. The library's own panics say what is wrong, but those of Go's runtime,
// such as an index out of range, mean nothing to a user.
func Reason(p any) string {
	if _, ok := p.(runtime.Error); ok {
		return "its counts, lengths and offsets contradict each other"
	}
	return fmt.Sprint(p)
}

// LogError returns the attributes of a log line for an error: the error and, for a panic, its stack.
func LogError(err error) slog.Attr {
	if p, ok := errors.AsType[*Panic](err); ok {
		return slog.Group("", "err", err, "stack", string(p.Stack))
	}
	return slog.Any("err", err)
}
