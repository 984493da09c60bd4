// Package stage builds pipelines that cache their results.
//
// A stage is a named function of raw files, parameters and the results of other stages.
// Running the last stage runs whatever is missing: a shared ancestor once, independent
// stages at the same time. The result of a stage with [Spec].Cache is stored under a key
// and computed again only when the key changes. The key is a hash of the stage's code, its
// parameters, the content of its files, the keys of its ancestors, and the storage format.
//
// A result is an [arrow.Table], a [Folder] of files, or a value with a codec. It is stored
// in a directory, a store of tables or any partd store; see [Options].
//
// # Promises
//
//   - A stored result is complete. What a failed or killed stage left behind is never read;
//     GC removes it, as does the next run that computes the key.
//   - A cached stage returns what was read back from storage, on the first run as on later
//     ones.
//   - Processes that share a directory, or a bucket of tables, compute a key once: the
//     others wait, and one of them takes over if the first dies. Processes that share a
//     partd store but no directory may compute a key twice; each result is complete even
//     then.
//   - Anything that cannot be hashed is an error: a parameter that contains a function,
//     code that is neither given nor versioned, a module without a version, a file that
//     changes during the run.
package stage

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

// Stage is a step of a pipeline. Its result is a T. It is safe for concurrent use.
type Stage[T any] struct{ n *node }

// Any is a stage with a result of any type.
type Any interface{ node() *node }

func (s *Stage[T]) node() *node { return s.n }

// node is what does not depend on a stage's type.
type node struct {
	name     string
	run      func(context.Context, *Inputs) (any, error)
	above    []*node // ancestors
	patterns []string
	params   []any
	code     []Code
	version  string
	modules  map[string]string
	cache    bool
	ttl      time.Duration
	result   reflect.Type
	codec    *codec
	err      error // of how it was made
}

// codec is an encode.ValueCodec with its name.
type codec struct {
	name   string
	encode func(any) ([]byte, error)
	decode func([]byte) (any, error)
}

var tableType, folderType = reflect.TypeFor[arrow.Table](), reflect.TypeFor[Folder]()

// Folder is the path of a directory of files that a stage made; see [Inputs.Dir]. Do not
// change it. GC does not remove it while a run uses it.
type Folder string

// Inputs are what a stage's function works on.
type Inputs struct {
	files  []string
	folder string
	values map[*node]any
}

// Files returns the paths of the raw files, in the order of their patterns, and sorted
// within each pattern.
func (in *Inputs) Files() []string { return in.files }

// Dir returns an empty directory for the files of a stage that makes a [Folder]. The stage
// must return this Folder, with nothing but regular files and directories in it.
func (in *Inputs) Dir() Folder { return Folder(in.folder) }

// Of returns the result of s to a stage that names s in From. For any other stage it is an
// error.
func (s *Stage[T]) Of(in *Inputs) (t T, err error) {
	v, ok := in.values[s.n]
	if !ok {
		return t, fmt.Errorf("the stage %q is no ancestor: name it in From", s.n.name)
	}
	t, _ = v.(T) // nil, where T is an interface
	return t, nil
}

// Error reports which stage failed.
type Error struct {
	Op    string // run, keep or hash
	Stage string
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("%s stage %q: %v", e.Op, e.Stage, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
