//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-partd/partd/tables/internal/sqlerror"
)

// moreMemory is what helps a statement that has too little.
const moreMemory = "give it more by --memory, or connect(memory=…) in Python, or let it take fewer rows at a time"

// NeedsMemory reports whether a statement failed since it had too little memory.
func NeedsMemory(err error) bool { return err != nil && strings.Contains(err.Error(), moreMemory) }

var errOneSelect = errors.New("only one statement is allowed, a SELECT")

// failure is an error as DuckDB writes it where errors_as_json is set, and as
// json_serialize_sql returns it.
type failure struct {
	Type     string `json:"exception_type"`
	Message  string `json:"exception_message"`
	Parsing  string `json:"error_message"`
	Position string `json:"position"` // in bytes
}

// decodeError makes an error of DuckDB's message for a statement.
func decodeError(sql, message string) error {
	var f failure
	at := strings.IndexByte(message, '{')
	if at < 0 || json.Unmarshal([]byte(message[at:]), &f) != nil || f.Message == "" {
		return &sqlerror.Error{Err: errors.New(message)}
	}
	text := f.Message
	if f.Type == "Out of Memory" { // DuckDB advises settings, which are locked here
		text, _, _ = strings.Cut(text, "\n")
		return f.error(sql, fmt.Errorf("%s error: %s: %s", f.Type, text, moreMemory))
	}
	if f.Type != "" {
		text = f.Type + " error: " + text
	}
	return f.error(sql, errors.New(text))
}

// error adds where in the statement an error is.
func (f *failure) error(sql string, err error) error {
	at, nerr := strconv.Atoi(f.Position)
	if nerr != nil {
		return &sqlerror.Error{Err: err}
	}
	return ErrorAt(sql, at, err)
}

// ErrorAt is an error at an offset in a statement, in bytes.
func ErrorAt(sql string, at int, err error) error {
	if at < 0 || at > len(sql) || sql == "" {
		return &sqlerror.Error{Err: err}
	}
	before := sql[:at]
	line := before[strings.LastIndexByte(before, '\n')+1:]
	return &sqlerror.Error{Line: 1 + strings.Count(before, "\n"), Column: 1 + utf8.RuneCountInString(line), Err: err}
}

// Refused is ErrorAt with a text.
func Refused(sql string, at int, format string, args ...any) error {
	return ErrorAt(sql, at, fmt.Errorf(format, args...))
}
