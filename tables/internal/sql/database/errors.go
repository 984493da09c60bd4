//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

const (
	memoryAdvice = "raise --memory, or memory in connect(memory=…) in Python, or process fewer rows per statement"
	spillAdvice  = "raise --max-spill or --memory, or process fewer rows per statement"
)

const outOfMemory = "Out of Memory" // DuckDB's name for the error

// OutOfMemoryError returns the error for a statement that ran out of memory, with advice for the user.
func OutOfMemoryError(err error) error {
	advice := memoryAdvice
	// DuckDB's message when its temporary files have reached their limit
	if strings.Contains(err.Error(), "failed to offload") {
		advice = spillAdvice
	}
	return &sqltext.CausedError{Text: fmt.Sprintf("%s error: %v: %s", outOfMemory, err, advice), Causes: []error{sqltext.ErrMemory}}
}

// NeedsMemory reports whether a statement failed because it ran out of memory or of space for temporary files.
func NeedsMemory(err error) bool { return errors.Is(err, sqltext.ErrMemory) }

// IsBinderError reports whether a statement does not fit its tables, for example because a column is missing.
func IsBinderError(err error) bool {
	return err != nil && strings.Contains(err.Error(), "Binder error: ")
}

var errOneSelect = errors.New("only a single SELECT statement is allowed")

// failure is a JSON error that DuckDB returns if errors_as_json is set, or from json_serialize_sql.
type failure struct {
	Type     string `json:"exception_type"`
	Message  string `json:"exception_message"`
	Parsing  string `json:"error_message"`
	Position string `json:"position"` // offset in bytes
}

func decodeError(sql, message string) error {
	var f failure
	start := strings.IndexByte(message, '{')
	if start < 0 || json.Unmarshal([]byte(message[start:]), &f) != nil || f.Message == "" {
		return &sqltext.Error{Err: errors.New(message)}
	}
	text := f.Message
	if f.Type == outOfMemory { // omit DuckDB's advice to change settings, which are locked here
		text, _, _ = strings.Cut(text, "\n")
		return f.error(sql, OutOfMemoryError(errors.New(text)))
	}
	if trimmed := strings.TrimSpace(text); f.Type == "IO" && (strings.HasSuffix(trimmed, "No space left on device") || strings.HasSuffix(trimmed, "Disk quota exceeded")) {
		return f.error(sql, &sqltext.CausedError{Text: "IO error: " + text, Causes: []error{syscall.ENOSPC}})
	}
	if f.Type != "" {
		text = f.Type + " error: " + text
	}
	return f.error(sql, errors.New(text))
}

func (f *failure) error(sql string, err error) error {
	offset, parseErr := strconv.Atoi(f.Position)
	if parseErr != nil {
		return &sqltext.Error{Err: err}
	}
	return sqltext.ErrorAt(sql, offset, err)
}
