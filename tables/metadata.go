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

// Metadata is what somebody wants to know of a table or a bucket: any value that
// JSON can say under each key. What is read has the types of package json, but
// numbers, which are a json.Number, so that none is rounded.
type Metadata map[string]any

// UnmarshalJSON reads an object.
func (m *Metadata) UnmarshalJSON(b []byte) error {
	parsed, err := icecat.ParseMetadata(b)
	*m = parsed
	return err
}

// maxMetadata bounds the metadata of a table or a bucket, as JSON.
const maxMetadata = 1 << 20

// maxDepth bounds how deep objects and arrays are in one another.
const maxDepth = 1000

// read returns metadata as it is read back, or why it cannot be kept.
func (m Metadata) read() (kept Metadata, err error) {
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
	// Package json reads 10,000 levels, and some are around what is sent and listed.
	if around := 10_000 - maxDepth; !json.Valid([]byte(strings.Repeat("[", around) + string(b) + strings.Repeat("]", around))) {
		return nil, fmt.Errorf("the metadata has more than %d levels", maxDepth)
	}
	return kept, kept.UnmarshalJSON(b)
}

// has reports whether metadata has all of some other, which was read.
func (m Metadata) has(some Metadata) bool {
	for k, v := range some {
		if got, ok := m[k]; !ok || icecat.Canonical(got) != icecat.Canonical(v) {
			return false
		}
	}
	return true
}

// MetadataChange says what becomes of metadata.
type MetadataChange struct {
	Set     Metadata `json:"set,omitempty"`
	Remove  []string `json:"remove,omitempty"`  // keys; one that is missing is no error
	Replace bool     `json:"replace,omitempty"` // what is not in Set goes
}

func (c MetadataChange) read() (MetadataChange, error) {
	var err error
	c.Set, err = c.Set.read()
	return c, err
}

// apply returns other metadata changed.
func (c MetadataChange) apply(was map[string]any) (map[string]any, error) {
	now := maps.Clone(was)
	if now == nil || c.Replace {
		now = map[string]any{}
	}
	maps.Copy(now, c.Set)
	for _, k := range c.Remove {
		delete(now, k)
	}
	return Metadata(now).read()
}

// SetMetadata sets a table's own metadata as a whole.
func (b *Bucket) SetMetadata(ctx context.Context, name string, m Metadata) error {
	return b.ChangeMetadata(ctx, name, MetadataChange{Set: m, Replace: true})
}

// ChangeMetadata changes a table's own metadata, or that of the bucket if the name
// is "", in one commit. A bucket that is missing is made.
func (b *Bucket) ChangeMetadata(ctx context.Context, name string, c MetadataChange) error {
	return b.store().Update(ctx, func(t *Txn) error { return t.ChangeMetadata(b.Name(), name, c) })
}

// Metadata returns the bucket's own metadata.
func (b *Bucket) Metadata(ctx context.Context) (_ Metadata, err error) {
	defer failed(&err, "read metadata", b.Name(), "")
	m, there, err := b.store().cat.NamespaceMetadata(ctx, namespaceOf(b.Name()))
	if err == nil && !there {
		err = ErrNotFound
	}
	return m, err
}

// SetMetadata sets a table's own metadata as a whole.
func (t *Txn) SetMetadata(bucket, name string, m Metadata) error {
	return t.ChangeMetadata(bucket, name, MetadataChange{Set: m, Replace: true})
}

// ChangeMetadata changes metadata; see Bucket.ChangeMetadata.
func (t *Txn) ChangeMetadata(bucket, name string, c MetadataChange) (err error) {
	defer failed(&err, "set metadata", bucket, name)
	c, err = c.read()
	if err == nil && name == "" {
		if t.ended {
			err = ErrTxnDone
		} else if err = checkName("bucket", bucket); err == nil {
			t.hooks = append(t.hooks, icecat.ChangeNamespaceMetadata(namespaceOf(bucket), c.apply))
		}
	} else if err == nil {
		var of *txnChange
		if of, err = t.existing(bucket, name); err == nil {
			of.Add(commit.Plain, nil, func(_ context.Context, a *commit.Attempt, cur *table.Table) (_ table.Metadata, err error) {
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

// UpdatedKey is the key of the metadata with the time of the last change.
const UpdatedKey = icecat.UpdatedKey

// withUpdated returns metadata as listings show it.
func withUpdated(m Metadata, at time.Time) Metadata {
	m = maps.Clone(m)
	if m == nil {
		m = Metadata{}
	}
	m[UpdatedKey] = icecat.UpdatedText(at)
	return m
}
