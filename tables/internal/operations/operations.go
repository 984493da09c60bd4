// Package operations does what can be asked of tables beside reading and writing rows:
// one table of operations, from which the actions of Flight, the page's HTTP, package
// flightclient and the command line are made.
//
// An operation is a variable of this package, with its name, the right and the slots
// that it takes, its input, its output, and what it does to a store. In list.go a new
// one is added; docs/flight.md has the table of all.
package operations

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"strings"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/wire"
)

// prefix begins the names of Flight's actions.
const prefix = "partd."

// Slots are what a server gives to few calls at a time.
type Slots uint8

const (
	NoSlot    Slots = iota // what is read is small
	PutSlot                // of those that write
	BothSlots              // of those that write and of those that query
)

// Entry is an operation without its types.
type Entry struct {
	Name    string   // lower case, words joined by "_"
	Aliases []string // other names that are taken

	Writes  bool // it takes the right to write, else that to read
	Slots   Slots
	Page    bool   // the page has it
	Command string // of partd-tables that does it; "" where no command does

	Input, Output reflect.Type

	// Run does the operation with what Parse returned, and passes on each answer. It is
	// nil where only a server can do it.
	Run func(ctx context.Context, s *tables.Store, input any, answer func(any) error) error
}

var (
	all    []*Entry
	byName = map[string]*Entry{}
)

// All returns the operations in the order of the documentation.
func All() []*Entry { return all }

// Named returns the operation of a name, nil where there is none. Words may be joined by
// "-" as well.
func Named(name string) *Entry { return byName[strings.ReplaceAll(name, "-", "_")] }

// OfAction is Named for the type of an action of Flight.
func OfAction(action string) *Entry {
	name, ok := strings.CutPrefix(action, prefix)
	if !ok {
		return nil
	}
	return Named(name)
}

// Action returns the type of the action of Flight.
func (e *Entry) Action() string { return prefix + e.Name }

// Parse reads the input.
func (e *Entry) Parse(body []byte) (any, error) {
	in := reflect.New(e.Input).Interface()
	return in, wire.Unmarshal(body, in)
}

// Operation is one that takes an In and answers with Outs.
type Operation[In, Out any] struct {
	*Entry
	do func(context.Context, *tables.Store, *In) iter.Seq2[Out, error]
}

// many registers an operation with any number of answers.
func many[In, Out any](e Entry, do func(context.Context, *tables.Store, *In) iter.Seq2[Out, error]) Operation[In, Out] {
	e.Input, e.Output = reflect.TypeFor[In](), reflect.TypeFor[Out]()
	if do != nil {
		e.Run = func(ctx context.Context, s *tables.Store, input any, answer func(any) error) error {
			for v, err := range do(ctx, s, input.(*In)) {
				if err == nil {
					err = answer(v)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	all = append(all, &e)
	for _, name := range append(e.Aliases, e.Name) {
		byName[name] = &e
	}
	return Operation[In, Out]{&e, do}
}

// one registers an operation with one answer.
func one[In, Out any](e Entry, do func(context.Context, *tables.Store, *In) (Out, error)) Operation[In, Out] {
	return many(e, func(ctx context.Context, s *tables.Store, in *In) iter.Seq2[Out, error] {
		return func(yield func(Out, error) bool) { yield(do(ctx, s, in)) }
	})
}

// None is the output of an operation that only succeeds or fails.
type None = struct{}

// silent registers an operation without output.
func silent[In any](e Entry, do func(context.Context, *tables.Store, *In) error) Operation[In, None] {
	return one(e, func(ctx context.Context, s *tables.Store, in *In) (None, error) { return None{}, do(ctx, s, in) })
}

// Server does operations elsewhere: it sends an input as JSON to an action, and yields
// its answers.
type Server interface {
	Do(ctx context.Context, action string, input any) iter.Seq2[[]byte, error]
}

// Target is where operations are done: in an open store, or else at a server.
type Target struct {
	Store  *tables.Store
	Server Server
}

// Each does the operation, and yields its answers.
func (o Operation[In, Out]) Each(ctx context.Context, t Target, in *In) iter.Seq2[Out, error] {
	if t.Store != nil {
		return o.do(ctx, t.Store, in)
	}
	return func(yield func(Out, error) bool) {
		for body, err := range t.Server.Do(ctx, o.Action(), in) {
			var v Out
			if err == nil {
				if err = json.Unmarshal(body, &v); err != nil {
					err = fmt.Errorf("the answer to %s: %w", o.Action(), err)
				}
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// Do is Each where there is one answer.
func (o Operation[In, Out]) Do(ctx context.Context, t Target, in *In) (out Out, err error) {
	for out, err = range o.Each(ctx, t, in) {
		return out, err
	}
	return out, fmt.Errorf("no answer to %s", o.Action())
}
