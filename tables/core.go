package tables

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/disk/space"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// core is shared by all parts of a Store. Only Open sets its fields, except dirsPattern.
type core struct {
	dir      string // the directory's absolute path, or the bucket's URL without its query
	localDir string // directory on this machine for locks, the tail, and a catalog that is not in PostgreSQL
	opts     Options
	hooks    hooks
	cat      *icecat.Catalog
	tail     *tail.Store // nil if there is no tail
	commits  *commit.Tables
	closers  closers

	dirsOnce    sync.Once
	dirsPattern *regexp.Regexp // set by withoutDir
}

// hooks change a store's behavior in tests.
type hooks struct {
	FS         vfs.FS
	OnCommit   func(done bool) // called before (done is false) and after each catalog transaction
	OnPrepared func()          // called after a put has written its files
	RetryFor   time.Duration   // how long to retry requests to an object store; 0 means one minute
	FileBytes  int             // target size of data files; 0 means definition.FileBytes
}

type closers []func() error

func (c closers) closeAll() (err error) {
	for _, f := range slices.Backward(c) {
		err = errors.Join(err, f())
	}
	return err
}

// checkOpen returns an error if the store is closed.
func (s *core) checkOpen() error {
	unpin, err := s.commits.Pin()
	if err == nil {
		unpin()
	}
	return err
}

// tableWriter changes a table.
type tableWriter struct {
	*commit.Entry
	s *core
}

// acquire returns a writer of a table. Until the caller calls release, the table's files are not removed.
func (s *core) acquire(ctx context.Context, n tableName) (e tableWriter, release func(), err error) {
	e.s = s
	e.Entry, release, err = s.commits.AcquirePinned(ctx, n)
	return e, release, err
}

// withoutDir implements Store.WithoutDir.
func (s *core) withoutDir(text string, others ...string) string {
	s.dirsOnce.Do(func() {
		home, _ := os.UserHomeDir()
		s.dirsPattern = compileDirs(strings.TrimSuffix(s.cat.DataLocation(), "/data/"), s.dir, s.localDir, s.opts.TailDir, s.opts.CacheDir, os.TempDir(), home)
	})
	// The others come first, because they may be inside one of the store's directories.
	for _, pattern := range []*regexp.Regexp{compileDirs(others...), s.dirsPattern} {
		if pattern != nil {
			// Replace twice: adjacent directories share a delimiter, so the first pass skips every other one.
			text = pattern.ReplaceAllString(pattern.ReplaceAllString(text, "$1…$2"), "$1…$2")
		}
	}
	return text
}

// compileDirs returns a pattern that matches dirs in several spellings, or nil if there are no dirs.
func compileDirs(dirs ...string) *regexp.Regexp {
	var roots []string
	for _, dir := range dirs {
		resolved, _ := filepath.EvalSymlinks(dir)
		for _, root := range []string{strings.TrimPrefix(dir, "file://"), resolved} {
			root = strings.TrimRight(root, `/\`)
			if strings.ContainsAny(root, `/\`) {
				quoted := strconv.Quote(root)
				roots = append(roots, regexp.QuoteMeta(root), regexp.QuoteMeta(quoted[1:len(quoted)-1]), regexp.QuoteMeta((&url.URL{Path: root}).EscapedPath()))
			}
		}
	}
	if len(roots) == 0 {
		return nil
	}
	// The pattern takes the first alternative that matches, so longer roots come first.
	slices.SortFunc(roots, func(a, b string) int { return len(b) - len(a) })
	return regexp.MustCompile(`(^|[^\w/.%-])(?:file:(?://)?)?(?:` + strings.Join(roots, "|") + `)($|[^\pL\pN_])`)
}

func (s *core) diskSpace() (free, total int64, err error) {
	if s.localDir == "" {
		return 0, 0, fmt.Errorf("cannot measure the free disk space of a store that is not open: %w", errors.ErrUnsupported)
	}
	free, total, err = space.Disk(s.localDir)
	if s.opts.TailDir != "" && err == nil {
		var tailFree, tailTotal int64
		tailFree, tailTotal, err = space.Disk(filepath.Dir(s.opts.TailDir))
		if tailFree < free {
			free, total = tailFree, tailTotal
		}
	}
	if s.opts.ReadOnly && (errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOSPC)) {
		err = nil
	}
	return free, total, err
}

type tableName = icecat.TableName

// checkTable returns the table's name in the catalog, or an error if the bucket's or the table's name is invalid.
func checkTable(bucket, name string) (tableName, error) {
	if err := errors.Join(checkName("bucket", bucket), checkName("table", name)); err != nil {
		return tableName{}, err
	}
	return tableName{Namespace: namespaceOf(bucket), Name: name}, nil
}

// checkName returns an error if a name is invalid. A table's name must not be empty; other names may be empty.
func checkName(kind, name string) error {
	invalid := func(format string, args ...any) error { return &ArgumentError{Err: fmt.Errorf(format, args...)} }
	switch {
	case len(name) > MaxName:
		return invalid("the %s name is %d bytes long: the limit is %d", kind, len(name), MaxName)
	case !utf8.ValidString(name):
		return invalid("the %s name is not valid UTF-8", kind)
	case kind == "table" && name == "":
		return invalid("the table name is empty")
	case strings.IndexByte(name, 0) >= 0:
		return invalid("the %s name contains a zero byte", kind)
	}
	return nil
}

// defaultNamespace is the namespace of the default bucket, whose name is "": a namespace's name cannot be empty.
// Buckets named "default", or "default" followed by underscores, get an extra underscore.
const defaultNamespace = "default"

func namespaceOf(bucket string) string {
	if bucket == "" {
		return defaultNamespace
	}
	if strings.TrimRight(bucket, "_") == defaultNamespace {
		return bucket + "_"
	}
	return bucket
}

func bucketOf(namespace string) string {
	if namespace == defaultNamespace {
		return ""
	}
	if strings.TrimRight(namespace, "_") == defaultNamespace {
		return namespace[:len(namespace)-1]
	}
	return namespace
}

// missingTable returns the error for a table that does not exist.
func missingTable(ctx context.Context, cat *icecat.Catalog, n tableName) error {
	const maxNames = 1000
	// Look up names only when the text is read: many callers expect the error and ignore its text.
	return &missingTableError{sync.OnceValue(func() string {
		names, _ := cat.Names(context.WithoutCancel(ctx), n.Namespace, "", maxNames) // an error only means that there is no hint
		return textfmt.Hint(n.Name, names)
	})}
}

// notFound returns missingTable's result if err is the catalog's error for a missing table, and otherwise err.
func notFound(ctx context.Context, cat *icecat.Catalog, n tableName, err error) error {
	if errors.Is(err, icecat.ErrNotFound) {
		return missingTable(ctx, cat, n)
	}
	return err
}

// MaxName is the maximum length of a bucket's or table's name, in bytes.
const MaxName = 255
