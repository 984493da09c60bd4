// Package stage makes pipelines whose results are kept.
//
// A stage is a function with a name, of raw files, parameters and the results of
// other stages. Running the last one runs what is missing: a shared ancestor once,
// those that do not depend on each other at the same time. What a stage with [Cache]
// returns is kept under a key, and is computed again once the key is another: a hash
// of the stage's code, its parameters, the content of its files, the keys of its
// ancestors, and the format of what is kept.
//
// A result is an [arrow.Table], a [Folder] of files, or a value that has a [Codec]. It
// is kept in a directory, a store of tables or any partd store; see [Options].
//
// # Promises
//
//   - A result is whole or not there. What a stage left that failed or was killed is
//     never read; the next that computes the key removes it, and so does GC.
//   - A stage that is kept returns what was kept, the first time as later.
//   - Processes that share a directory, or a bucket of tables, compute a key once: the
//     others wait, and one takes over if the first dies. Processes that share a partd
//     store and no directory may compute a key twice; each result is whole then, too.
//   - What cannot be hashed is an error: a parameter with a function in it, code of
//     which nothing is said, a module without a version, a file that changes meanwhile.
package stage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/encode"
)

// Stage is a step of a pipeline that makes a T. It is safe for concurrent use.
type Stage[T any] struct{ n *node }

// Any is a stage, whatever it makes.
type Any interface{ node() *node }

func (s *Stage[T]) node() *node { return s.n }

// node is what does not depend on a stage's type.
type node struct {
	name     string
	run      func(context.Context, *Inputs) (any, error)
	above    []*node // ancestors
	patterns []string
	params   []any
	sources  []source
	version  string
	modules  map[string]string
	cache    bool
	ttl      time.Duration
	result   reflect.Type
	codec    *codec
	err      error // of how it was made
}

// codec is an encode.ValueCodec.
type codec struct {
	name   string
	of     reflect.Type
	encode func(any) ([]byte, error)
	decode func([]byte) (any, error)
}

var tableType, folderType = reflect.TypeFor[arrow.Table](), reflect.TypeFor[Folder]()

// Option says what a stage is made of.
type Option func(*node)

// From names the ancestors of a stage, whose results it gets by [Stage.Of].
func From(stages ...Any) Option {
	return func(n *node) {
		for _, s := range stages {
			n.above = append(n.above, s.node())
		}
	}
}

// Files names the raw files of a stage, by their paths or by patterns as
// [path/filepath.Glob] has them. One that matches nothing is an error.
func Files(patterns ...string) Option {
	return func(n *node) { n.patterns = append(n.patterns, patterns...) }
}

// Params are values that the function uses: numbers, text, times, and structs, slices
// and maps of such. Pointers, functions and channels have no hash, and are an error.
func Params(values ...any) Option {
	return func(n *node) { n.params = append(n.params, values...) }
}

// Cache says whether the stage's result is kept. Without, it is not.
func Cache(keep bool) Option { return func(n *node) { n.cache = keep } }

// TTL is how long a result counts once it was made, whoever kept it. What was made of it
// expires with it. 0 means for ever.
func TTL(d time.Duration) Option { return func(n *node) { n.ttl = d } }

// Codec encodes results that are neither tables nor files. The name is a part of the
// key: what writes other bytes has another name.
func Codec[T any](name string, c encode.ValueCodec[T]) Option {
	return func(n *node) {
		n.codec = &codec{
			name: name, of: reflect.TypeFor[T](),
			encode: func(v any) ([]byte, error) {
				t, _ := v.(T) // nil, where T is an interface
				return c.Encode(nil, t)
			},
			decode: func(b []byte) (any, error) { return c.Decode(b) },
		}
	}
}

// New makes a stage of a function. It needs [Source] or [Version], to tell one state
// of its code from another. What is wrong with the options is an error of Run and Plan.
//
// What a stage gets and returns is shared with others, and must not be changed. Tables
// need no Release.
func New[T any](name string, f func(context.Context, *Inputs) (T, error), options ...Option) *Stage[T] {
	n := &node{name: name, result: reflect.TypeFor[T](), modules: map[string]string{}}
	n.run = func(ctx context.Context, in *Inputs) (any, error) { return f(ctx, in) }
	for _, o := range options {
		o(n)
	}
	coded := n.result != tableType && n.result != folderType
	switch {
	case name == "":
		n.err = errors.New("the stage has no name")
	case n.version == "" && len(n.sources) == 0:
		n.err = errors.New("nothing is said of its code: give it Source, with files that are embedded, or Version")
	case n.result == folderType && !n.cache:
		n.err = errors.New("files of a stage have to be kept: give it Cache(true)")
	case coded && n.cache && n.codec == nil:
		n.err = fmt.Errorf("a %v is kept by a codec: give it Codec", n.result)
	case n.codec != nil && (n.codec.of != n.result || !coded):
		n.err = fmt.Errorf("it makes a %v, and its codec is for a %v", n.result, n.codec.of)
	}
	return &Stage[T]{n}
}

// Folder is the path of a directory of files that a stage made; see [Inputs.Dir]. GC
// does not remove it while a run uses it. It must not be changed.
type Folder string

// Inputs is what a stage is run with.
type Inputs struct {
	files  []string
	folder string
	values map[*node]any
}

// Files returns the paths of the raw files, pattern by pattern, each sorted.
func (in *Inputs) Files() []string { return in.files }

// Dir is an empty directory for the files of a stage that makes a [Folder], and returns
// this one. Files and directories are kept; nothing else can be.
func (in *Inputs) Dir() Folder { return Folder(in.folder) }

// Of returns the result of an ancestor. It is an error to ask for one that is not
// among those of From.
func (s *Stage[T]) Of(in *Inputs) (t T, err error) {
	v, ok := in.values[s.n]
	if !ok {
		return t, fmt.Errorf("the stage %q is no ancestor: name it in From", s.n.name)
	}
	t, _ = v.(T) // nil, where T is an interface
	return t, nil
}

// Error says which stage failed.
type Error struct {
	Op    string // run, keep or hash
	Stage string
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("%s stage %q: %v", e.Op, e.Stage, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
