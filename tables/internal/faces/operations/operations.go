// Package operations defines the operations on tables other than reading and writing rows, and the JSON with which
// clients request and send rows over Flight. Flight's actions, the web page's HTTP interface, package flightclient and
// the commands all use this one list of operations.
//
// Each operation is a variable in list.go; docs/dev/tables-wire.md lists all of them.
package operations

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"strings"

	"github.com/go-partd/partd/tables"
)

// prefix is the prefix of the names of Flight actions.
const prefix = "partd."

// Slots says which permits an operation needs on a server. The number of permits limits the server's concurrent work.
type Slots uint8

const (
	NoSlot    Slots = iota // no permit; for operations that read little
	PutSlot                // one permit for writing
	BothSlots              // one permit for writing and one for querying
	CopySlot               // the only permit for copying or verifying files; the call fails if another call has it
)

// Entry is an operation whose input and output types are known only at run time.
type Entry struct {
	Name    string   // lower case, words joined by "_"
	Aliases []string // other accepted names

	Writes  bool // requires the right to write; other operations require the right to read
	Slots   Slots
	Page    bool   // whether the server's web page offers the operation
	Command string // the partd-tables command for the operation, or ""

	Input, Output reflect.Type

	// Run runs the operation with an input from Parse and sends the answers. It is nil if only a server implements it.
	Run func(ctx context.Context, s *tables.Store, input any, send func(any) error) error
}

var (
	entries []*Entry
	byName  = map[string]*Entry{}
)

// All returns the operations, in the order of the documentation.
func All() []*Entry { return entries }

// ByName returns the operation with the given name or alias, or nil. The name may contain "-" instead of "_".
func ByName(name string) *Entry { return byName[strings.ReplaceAll(name, "-", "_")] }

// ByAction returns the operation for a Flight action, or nil.
func ByAction(action string) *Entry {
	name, ok := strings.CutPrefix(action, prefix)
	if !ok {
		return nil
	}
	return ByName(name)
}

// Action returns the name of the operation's Flight action.
func (e *Entry) Action() string { return prefix + e.Name }

// Parse decodes an input for the operation from JSON.
func (e *Entry) Parse(body []byte) (any, error) {
	in := reflect.New(e.Input).Interface()
	return in, Unmarshal(body, in)
}

// Operation is an operation with an input of type In and answers of type Out.
type Operation[In, Out any] struct {
	*Entry
	run func(context.Context, *tables.Store, *In) iter.Seq2[Out, error]
}

// withAnswers registers an operation with any number of answers. run is nil if only a server implements the operation.
func withAnswers[In, Out any](e Entry, run func(context.Context, *tables.Store, *In) iter.Seq2[Out, error]) Operation[In, Out] {
	e.Input, e.Output = reflect.TypeFor[In](), reflect.TypeFor[Out]()
	if run != nil {
		e.Run = func(ctx context.Context, s *tables.Store, input any, send func(any) error) error {
			for v, err := range run(ctx, s, input.(*In)) {
				if err == nil {
					err = send(v)
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
	return Operation[In, Out]{&e, run}
}

func withAnswer[In, Out any](e Entry, run func(context.Context, *tables.Store, *In) (Out, error)) Operation[In, Out] {
	return withAnswers(e, func(ctx context.Context, s *tables.Store, in *In) iter.Seq2[Out, error] {
		return func(yield func(Out, error) bool) { yield(run(ctx, s, in)) }
	})
}

// None is the type of an empty input or answer.
type None = struct{}

func withoutAnswer[In any](e Entry, run func(context.Context, *tables.Store, *In) error) Operation[In, None] {
	return withAnswer(e, func(ctx context.Context, s *tables.Store, in *In) (None, error) { return None{}, run(ctx, s, in) })
}

// Server is a connection to a server that runs operations. Do calls a Flight action with the input, encoded as JSON,
// and yields the encoded answers.
type Server interface {
	Do(ctx context.Context, action string, input any) iter.Seq2[[]byte, error]
}

// Target says where operations run: on Store, if it is not nil, and otherwise on Server.
type Target struct {
	Store  *tables.Store
	Server Server
}

// Each runs the operation and yields its answers.
func (o Operation[In, Out]) Each(ctx context.Context, t Target, in *In) iter.Seq2[Out, error] {
	if t.Store != nil {
		return o.run(ctx, t.Store, in)
	}
	return func(yield func(Out, error) bool) {
		for body, err := range t.Server.Do(ctx, o.Action(), in) {
			var v Out
			if err == nil {
				err = json.Unmarshal(body, &v)
				if err != nil {
					err = fmt.Errorf("decode the answer to %s: %w", o.Action(), err)
				}
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// Do runs an operation that has one answer and returns the answer.
func (o Operation[In, Out]) Do(ctx context.Context, t Target, in *In) (out Out, err error) {
	for out, err = range o.Each(ctx, t, in) {
		return out, err
	}
	return out, fmt.Errorf("the server sent no answer to %s", o.Action())
}

// Change runs an operation whose answer is empty or does not matter.
func (o Operation[In, Out]) Change(ctx context.Context, t Target, in *In) error {
	_, err := o.Do(ctx, t, in)
	return err
}
