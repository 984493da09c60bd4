//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables"
)

// ended adds why a query was interrupted to what DuckDB says about it.
func ended(ctx context.Context, err error) error {
	if cause := canceled.Err(ctx); cause != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return canceled.Explain(ctx, err)
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
	if at, ok := errors.AsType[*tables.SQLError](err); ok {
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
