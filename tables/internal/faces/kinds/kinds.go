// Package kinds says what errors mean to clients. All faces (the protocols of a server) take their codes from its table
// and send the kinds and the fields of an error. Clients turn these back into Go errors and never parse messages.
package kinds

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"
	"unicode/utf16"

	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
)

// Header is the gRPC trailer and the HTTP header that contain an error's Details.
const Header = "partd-error"

// maxHeader is the maximum size of a header, in bytes. gRPC clients accept 8 KiB of trailers, mostly for the text.
const maxHeader = 1 << 10

// Fields describe an error. Which ones are set depends on its kinds.
type Fields struct {
	Time       time.Time          `json:"time,omitzero"`    // the selected time
	Before     time.Time          `json:"before,omitzero"`  // the nearest earlier time that can be selected
	After      time.Time          `json:"after,omitzero"`   // the nearest later time that can be selected
	Name       string             `json:"name,omitempty"`   // name of a column
	Line       int                `json:"line,omitempty"`   // counted from 1
	Column     int                `json:"column,omitempty"` // the position in the line, in characters, counted from 1
	Writes     bool               `json:"writes,omitempty"` // whether the statement writes; the page runs such a statement only with its action exec
	Size       int64              `json:"size,omitempty"`   // size of the message, value or batch, in bytes
	Limit      int64              `json:"limit,omitempty"`  // the exceeded limit, in bytes
	Count      int64              `json:"count,omitempty"`  // number of duplicate rows
	Rows       []string           `json:"rows,omitempty"`   // the first duplicate rows, as text
	Violations []tables.Violation `json:"violations,omitempty"`
}

// Details are an error's kinds and fields, as clients receive them.
type Details struct {
	Kinds []string `json:"kinds"` // words of the kinds; the first kind determines the codes
	Retry string   `json:"retry"` // of the first kind: see Kind.Retry
	Fields
	*Kind `json:"-"` // the first kind
}

// Detailed is an error that knows its kinds and fields.
type Detailed interface {
	error
	ErrorDetails() *Details
}

// Error is an error that a face itself reports, or that a client received.
type Error struct {
	Kind *Kind // the first kind
	Text string
	Fields
	words   []string // words of all kinds; nil if there is only one kind
	wrapped []error
}

func (e *Error) Error() string   { return e.Text }
func (e *Error) Unwrap() []error { return e.wrapped }

// ErrorDetails returns the error's kinds and fields.
func (e *Error) ErrorDetails() *Details {
	return &Details{Kinds: append([]string{e.Kind.Word}, e.words...), Fields: e.Fields}
}

// GRPCStatus returns the status that Flight clients receive for the error.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Kind.GRPC, e.Text) }

// Errorf returns an error of the kind. It does not wrap its arguments.
func (k *Kind) Errorf(format string, args ...any) error {
	return &Error{Kind: k, Text: fmt.Sprintf(format, args...)}
}

// Oversized returns an error of kind TooLarge. Its text starts with prefix, such as "the message has".
func Oversized(prefix string, size, limit int64) error {
	return &Error{Kind: TooLarge, Text: fmt.Sprintf("%s %d bytes: the limit is %d", prefix, size, limit), Fields: Fields{Size: size, Limit: limit}}
}

// Of returns the details of err, which must not be nil. If no kind matches err, it has the last kind with err's gRPC
// status code, or else the kind Internal.
func Of(err error) *Details {
	d := new(Details)
	words := d.collect(err)
	for _, k := range All {
		if slices.Contains(words, k.Word) || k.match != nil && k.match(err, d) {
			d.add(k)
			words = append(words, k.general)
		}
	}
	if d.Kind != nil {
		return d
	}
	if foreign, ok := status.FromError(err); ok {
		for _, k := range slices.Backward(All) {
			if k.GRPC == foreign.Code() {
				d.add(k)
				return d
			}
		}
	}
	d.add(Internal)
	return d
}

// collect returns the words of all Detailed errors in err's tree. It copies the first Fields that are not zero to d.
func (d *Details) collect(err error) (words []string) {
	if e, ok := err.(Detailed); ok { //nolint:errorlint // collect unwraps err itself
		details := e.ErrorDetails()
		words = details.Kinds
		if reflect.ValueOf(d.Fields).IsZero() {
			d.Fields = details.Fields
		}
	}
	wrapped := []error{errors.Unwrap(err)}
	if e, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // likewise
		wrapped = e.Unwrap()
	}
	for _, next := range wrapped {
		if next != nil {
			words = append(words, d.collect(next)...)
		}
	}
	return words
}

func (d *Details) add(k *Kind) {
	d.Kinds = append(d.Kinds, k.Word)
	if d.Kind == nil {
		d.Kind, d.Retry = k, k.Retry
	}
}

// Header returns d as a value of the header [Header]: JSON in ASCII. It omits texts and lists if they are too long.
func (d *Details) Header() string {
	encoded := d.ascii()
	if len(encoded) > maxHeader {
		short := *d
		short.Name, short.Rows, short.Violations = "", nil, nil
		encoded = short.ascii()
	}
	return encoded
}

func (d *Details) ascii() string {
	text, _ := json.Marshal(d) // cannot fail
	var b []byte
	for _, unit := range utf16.Encode([]rune(string(text))) {
		if unit < 0x7f {
			b = append(b, byte(unit))
		} else {
			b = fmt.Appendf(b, `\u%04x`, unit)
		}
	}
	return string(b)
}

// Parse decodes a value of the header [Header]. It returns nil if the value contains no known kind.
func Parse(value string) *Details {
	d := new(Details)
	if json.Unmarshal([]byte(value), d) != nil {
		return nil
	}
	for _, k := range All {
		if slices.Contains(d.Kinds, k.Word) {
			d.Kind = k
			return d
		}
	}
	return nil
}

// GoError returns an error with the given text and d's details. It wraps the errors in wrapped or, if there are none,
// the Go errors of d's kinds.
func (d *Details) GoError(text string, wrapped ...error) error {
	if wrapped == nil {
		for _, k := range All {
			if k.newError != nil && slices.Contains(d.Kinds, k.Word) {
				wrapped = append(wrapped, k.newError(d, errors.New(text)))
			}
		}
	}
	return &Error{Kind: d.Kind, Text: text, Fields: d.Fields, words: d.Kinds, wrapped: wrapped}
}
