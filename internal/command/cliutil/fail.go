package cliutil

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/remote"
)

// kinds names the kinds of errors that programs report, the most important ones first. An error can have several kinds.
// Other programs may rely on these words, but not on messages.
var kinds = []struct {
	word string
	err  error // wrapped by all errors of the kind
}{
	{"unknown_outcome", partd.ErrUnknownOutcome},
	{"disk_full", syscall.ENOSPC},
	{"quota", syscall.EDQUOT},
	{"in_use", partd.ErrInUse},
	{"read_only_disk", syscall.EROFS},
	{"file_permission", syscall.EACCES},
	{"file_permission", syscall.EPERM},
	{"permission", fs.ErrPermission},
	{"no_such_file", syscall.ENOENT},
	{"not_found", fs.ErrNotExist},
	{"dir_not_empty", output.ErrNotEmpty},
	{"other_keys", output.ErrOtherKeys},
	{"exists", output.ErrExists},
	{"too_large", partd.ErrTooLarge},
	{"unsupported", errors.ErrUnsupported},
	{"busy", remote.ErrBusy},
	{"timed_out", context.DeadlineExceeded},
}

// Kinds returns the words for all kinds of err.
func Kinds(err error) (words []string) {
	if errors.As(err, new(*partd.CorruptError)) {
		words = append(words, "damaged")
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			words = append(words, k.word)
		}
	}
	return words
}

// Fail writes the error that ends the program and returns the exit code. It writes the program's name, the message and
// the given lines. If $PARTD_ERRORS is "json", it writes one line of JSON instead, for a program that started this one:
// the error's kinds and details, and the message without advice about flags.
func (p *Program) Fail(code int, err error, message string, lines ...string) int {
	if os.Getenv("PARTD_ERRORS") != "json" {
		fmt.Fprintln(p.Err, strings.Join(append([]string{p.name + ": " + message}, lines...), "\n"))
		return code
	}
	if a, ok := errors.AsType[advised](err); ok {
		message = strings.Replace(message, a.advice, "", 1)
	}
	words := Kinds(err)
	if word := map[int]string{ExitUsage: "usage", ExitInterrupted: "interrupted"}[code]; word != "" {
		words = slices.Insert(words, 0, word)
	}
	object := map[string]any{"error": message}
	if p.Details != nil {
		words = p.Details(err, words, object)
	}
	if len(words) == 0 {
		words = []string{"internal"}
	}
	object["kinds"] = words
	_ = NewEncoder(p.Err).Encode(object) // ignore the error, as when writing messages for people
	return code
}

// Advise returns err with advice about the program's flags. Only people see the advice: Fail omits it from JSON.
func Advise(err error, advice string) error { return advised{err, advice} }

type advised struct {
	error
	advice string
}

func (a advised) Error() string { return a.error.Error() + a.advice }
func (a advised) Unwrap() error { return a.error }
