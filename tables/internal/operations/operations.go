// Package operations defines the operations on tables other than reading and writing rows. Flight's actions,
// the web page's HTTP interface, package flightclient and the commands all use this one list.
//
// An operation is a variable of this package. It has a name, the required right and slots, input and output
// types, and a function on a store. Add new operations to list.go; docs/flight.md lists all of them.
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

// prefix is the prefix of Flight's action names.
const prefix = "partd."

// Slots says which of the server's permits an operation needs.
type Slots uint8

const (
	NoSlot    Slots = iota // for operations that read little
	PutSlot                // a permit for writing
	BothSlots              // permits for writing and for querying
)

// Entry is an operation without its input and output types.
type Entry struct {
	Name    string   // lower case, words joined by "_"
	Aliases []string // other accepted names

	Writes  bool // requires the right to write; other operations require the right to read
	Slots   Slots
	Page    bool   // whether the server's web page offers the operation
	Command string // the command of partd-tables for the operation, or ""

	Input, Output reflect.Type

	// Run runs the operation with an input from Parse, and calls answer with each answer. It is nil if only a
	// server implements the operation.
	Run func(ctx context.Context, s *tables.Store, input any, answer func(any) error) error
}

var (
	entries []*Entry
	byName  = map[string]*Entry{}
)

// All returns the operations, in the order of the documentation.
func All() []*Entry { return entries }

// ByName returns the operation with a name, or nil. Words may also be joined by "-".
func ByName(name string) *Entry { return byName[strings.ReplaceAll(name, "-", "_")] }

// ByAction returns the operation of a Flight action, or nil.
func ByAction(action string) *Entry {
	name, ok := strings.CutPrefix(action, prefix)
	if !ok {
		return nil
	}
	return ByName(name)
}

// Action returns the type of the operation's Flight action.
func (e *Entry) Action() string { return prefix + e.Name }

// Parse decodes the input.
func (e *Entry) Parse(body []byte) (any, error) {
	in := reflect.New(e.Input).Interface()
	return in, wire.Unmarshal(body, in)
}

// Operation is an operation with input In and answers Out.
type Operation[In, Out any] struct {
	*Entry
	run func(context.Context, *tables.Store, *In) iter.Seq2[Out, error]
}

// withAnswers registers an operation with any number of answers. do is nil if only a server implements the operation.
func withAnswers[In, Out any](e Entry, do func(context.Context, *tables.Store, *In) iter.Seq2[Out, error]) Operation[In, Out] {
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
	entries = append(entries, &e)
	for _, name := range append(e.Aliases, e.Name) {
		byName[name] = &e
	}
	return Operation[In, Out]{&e, do}
}

// withAnswer registers an operation with one answer.
func withAnswer[In, Out any](e Entry, do func(context.Context, *tables.Store, *In) (Out, error)) Operation[In, Out] {
	return withAnswers(e, func(ctx context.Context, s *tables.Store, in *In) iter.Seq2[Out, error] {
		return func(yield func(Out, error) bool) { yield(do(ctx, s, in)) }
	})
}

// None is the output of an operation without answers.
type None = struct{}

// withoutAnswer registers an operation without output.
func withoutAnswer[In any](e Entry, do func(context.Context, *tables.Store, *In) error) Operation[In, None] {
	return withAnswer(e, func(ctx context.Context, s *tables.Store, in *In) (None, error) { return None{}, do(ctx, s, in) })
}

// Server runs operations remotely: it sends an input as JSON to an action, and yields the answers.
type Server interface {
	Do(ctx context.Context, action string, input any) iter.Seq2[[]byte, error]
}

// Target runs operations: it is an open store or a server.
type Target struct {
	Store  *tables.Store
	Server Server
}

// Each runs the operation, and yields its answers.
func (o Operation[In, Out]) Each(ctx context.Context, t Target, in *In) iter.Seq2[Out, error] {
	if t.Store != nil {
		return o.run(ctx, t.Store, in)
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

// Do runs an operation with one answer, and returns the answer.
func (o Operation[In, Out]) Do(ctx context.Context, t Target, in *In) (out Out, err error) {
	for out, err = range o.Each(ctx, t, in) {
		return out, err
	}
	return out, fmt.Errorf("no answer to %s", o.Action())
}
