//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-partd/partd/tables"
)

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
		return &tables.SQLError{Err: errors.New(message)}
	}
	text := f.Message
	if f.Type != "" {
		text = f.Type + " error: " + text
	}
	return f.error(sql, errors.New(text))
}

// error adds where in the statement an error is.
func (f *failure) error(sql string, err error) error {
	at, nerr := strconv.Atoi(f.Position)
	if nerr != nil {
		return &tables.SQLError{Err: err}
	}
	return errorAt(sql, at, err)
}

// errorAt is an error at an offset in a statement, in bytes.
func errorAt(sql string, at int, err error) error {
	if at < 0 || at > len(sql) || sql == "" {
		return &tables.SQLError{Err: err}
	}
	before := sql[:at]
	line := before[strings.LastIndexByte(before, '\n')+1:]
	return &tables.SQLError{Line: 1 + strings.Count(before, "\n"), Column: 1 + utf8.RuneCountInString(line), Err: err}
}

func refused(sql string, at int, format string, args ...any) error {
	return errorAt(sql, at, fmt.Errorf(format, args...))
}

// ended adds why a query was interrupted to what DuckDB says about it.
func ended(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// pathError is an error without the paths that it names.
type pathError struct {
	text string
	err  error
	at   *tables.SQLError // which is in err, without the paths; or nil
}

func (e *pathError) Error() string { return e.text }
func (e *pathError) Unwrap() error { return e.err }

// As finds the statement's error without the paths.
func (e *pathError) As(target any) bool {
	at, ok := target.(**tables.SQLError)
	if !ok || e.at == nil {
		return false
	}
	*at = e.at
	return true
}

// hidePaths keeps where the store and temporary files are from who asks: it may be
// somebody on another machine.
func (q *query) hidePaths(err error) error {
	hidden := &pathError{text: q.withoutPaths(err.Error()), err: err}
	if hidden.text == err.Error() {
		return err
	}
	var at *tables.SQLError
	if errors.As(err, &at) {
		hidden.at = &tables.SQLError{Line: at.Line, Column: at.Column, Err: errors.New(q.withoutPaths(at.Err.Error()))}
	}
	return hidden
}

func (q *query) withoutPaths(text string) string {
	for _, t := range q.tables {
		for _, path := range t.files {
			text = strings.ReplaceAll(text, path, "a file of "+t.String())
		}
	}
	for _, dir := range []string{q.store.Dir(), q.e.dir, os.TempDir()} {
		text = strings.ReplaceAll(text, dir+string(filepath.Separator), "")
		text = strings.ReplaceAll(text, dir, "the directory")
	}
	return text
}
