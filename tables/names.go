package tables

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

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
	// Many callers expect the error, and never read its text.
	return &missingTableError{sync.OnceValue(func() string {
		names, _ := cat.Names(context.WithoutCancel(ctx), n.Namespace, "", maxNames) // an error only means that there is no hint
		return textfmt.Hint(n.Name, names)
	})}
}

// notFound returns the result of missingTable if err is the catalog's error for a missing table, and otherwise err.
func notFound(ctx context.Context, cat *icecat.Catalog, n tableName, err error) error {
	if errors.Is(err, icecat.ErrNotFound) {
		return missingTable(ctx, cat, n)
	}
	return err
}

// MaxName is the maximum length of a bucket's or table's name, in bytes.
const MaxName = 255
