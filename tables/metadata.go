package tables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// Metadata holds the user's metadata of a table or a bucket: any value that JSON can
// represent under each key. Values read back have the types of encoding/json, except that
// numbers are json.Number, so that none is rounded.
type Metadata map[string]any

// UnmarshalJSON reads a JSON object.
func (m *Metadata) UnmarshalJSON(b []byte) error {
	parsed, err := icecat.ParseMetadata(b)
	*m = parsed
	return err
}

// maxMetadata is the maximum size of metadata, as JSON.
const maxMetadata = 1 << 20

// maxDepth is the maximum depth of nested objects and arrays.
const maxDepth = 1000

// normalize returns the metadata as it will be read back, or an error if it cannot be stored.
func (m Metadata) normalize() (normalized Metadata, err error) {
	for k, v := range m {
		if text, _ := v.(string); !utf8.ValidString(k) || !utf8.ValidString(text) {
			return nil, fmt.Errorf("the key %q of the metadata, or its value, is not valid UTF-8", k)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("the metadata: %w", err)
	}
	if len(b) > maxMetadata {
		return nil, errors.New("the metadata has more than 1 MiB")
	}
	// Package json reads at most 10,000 levels, and messages and listings wrap metadata in some levels.
	if wrapping := 10_000 - maxDepth; !json.Valid([]byte(strings.Repeat("[", wrapping) + string(b) + strings.Repeat("]", wrapping))) {
		return nil, fmt.Errorf("the metadata has more than %d levels", maxDepth)
	}
	return normalized, normalized.UnmarshalJSON(b)
}

// contains reports whether m contains all values of some, which must be normalized.
func (m Metadata) contains(some Metadata) bool {
	for k, v := range some {
		if got, ok := m[k]; !ok || icecat.Canonical(got) != icecat.Canonical(v) {
			return false
		}
	}
	return true
}

// MetadataChange changes some or all keys of metadata.
type MetadataChange struct {
	Set     Metadata `json:"set,omitempty"`
	Remove  []string `json:"remove,omitempty"`  // keys to remove; missing keys are no error
	Replace bool     `json:"replace,omitempty"` // remove all keys that are not in Set
}

func (c MetadataChange) normalize() (MetadataChange, error) {
	var err error
	c.Set, err = c.Set.normalize()
	return c, err
}

// apply returns a changed copy of metadata.
func (c MetadataChange) apply(was map[string]any) (map[string]any, error) {
	changed := maps.Clone(was)
	if changed == nil || c.Replace {
		changed = map[string]any{}
	}
	maps.Copy(changed, c.Set)
	for _, k := range c.Remove {
		delete(changed, k)
	}
	return Metadata(changed).normalize()
}

// SetMetadata replaces a table's own metadata.
func (b *Bucket) SetMetadata(ctx context.Context, name string, m Metadata) error {
	return b.ChangeMetadata(ctx, name, MetadataChange{Set: m, Replace: true})
}

// ChangeMetadata changes a table's own metadata, or that of the bucket if name is "", in
// one commit. It creates the bucket if it is missing.
func (b *Bucket) ChangeMetadata(ctx context.Context, name string, c MetadataChange) error {
	return b.store().Update(ctx, func(t *Txn) error { return t.ChangeMetadata(b.Name(), name, c) })
}

// Metadata returns the bucket's own metadata.
func (b *Bucket) Metadata(ctx context.Context) (_ Metadata, err error) {
	defer wrapError(&err, "read metadata", b.Name(), "")
	m, exists, err := b.store().cat.NamespaceMetadata(ctx, namespaceOf(b.Name()))
	if err == nil && !exists {
		err = ErrNotFound
	}
	return m, err
}

// SetMetadata replaces a table's own metadata.
func (t *Txn) SetMetadata(bucket, name string, m Metadata) error {
	return t.ChangeMetadata(bucket, name, MetadataChange{Set: m, Replace: true})
}

// ChangeMetadata changes metadata; see Bucket.ChangeMetadata.
func (t *Txn) ChangeMetadata(bucket, name string, c MetadataChange) (err error) {
	defer wrapError(&err, "set metadata", bucket, name)
	c, err = c.normalize()
	if err == nil && name == "" {
		if t.ended {
			err = ErrTxnDone
		} else if err = checkName("bucket", bucket); err == nil {
			t.hooks = append(t.hooks, icecat.ChangeNamespaceMetadata(namespaceOf(bucket), c.apply))
		}
	} else if err == nil {
		var change *txnChange
		if change, err = t.existing(bucket, name); err == nil {
			change.Add(commit.Plain, nil, func(_ context.Context, a *commit.Attempt, cur *table.Table) (_ table.Metadata, err error) {
				if cur == nil {
					return nil, ErrNotFound
				}
				a.Info.Updated = a.Now
				a.Info.Metadata, err = c.apply(a.Info.Metadata)
				return cur.Metadata(), err
			})
		}
	}
	return err
}

// UpdatedKey is the metadata key with the time of the last change.
const UpdatedKey = icecat.UpdatedKey

// withUpdated returns metadata in the form of listings, with the time of the last change.
func withUpdated(m Metadata, at time.Time) Metadata {
	m = maps.Clone(m)
	if m == nil {
		m = Metadata{}
	}
	m[UpdatedKey] = icecat.UpdatedText(at)
	return m
}
