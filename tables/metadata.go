package tables

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// Metadata is a user's metadata for a table or a bucket. Values can be anything that JSON can represent. When read
// back, they have the types that encoding/json uses for an any, except that numbers are json.Number, to avoid rounding.
type Metadata map[string]any

// UnmarshalJSON reads a JSON object.
func (m *Metadata) UnmarshalJSON(b []byte) error {
	parsed, err := icecat.ParseMetadata(b)
	*m = parsed
	return err
}

// maxMetadataBytes limits the size of metadata as JSON.
const maxMetadataBytes = 1 << 20

// maxDepth limits the nesting of objects and arrays in metadata.
const maxDepth = 1000

// normalize returns the metadata as it will be read back, or an error if it cannot be stored.
func (m Metadata) normalize() (normalized Metadata, err error) {
	for k, v := range m {
		if text, _ := v.(string); !utf8.ValidString(k) || !utf8.ValidString(text) {
			return nil, fmt.Errorf("metadata key %q, or its value, is not valid UTF-8", k)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		for k, v := range m {
			if _, err := json.Marshal(v); err != nil {
				return nil, fmt.Errorf("encode the value of the metadata key %q: %w", k, err)
			}
		}
		return nil, fmt.Errorf("encode the metadata: %w", err)
	}
	if len(b) > maxMetadataBytes {
		return nil, errors.New("the metadata is larger than 1 MiB")
	}
	// Package json accepts at most 10,000 levels. The brackets use up all of them except maxDepth, so json.Valid
	// rejects metadata that is nested more deeply.
	if wrapping := 10_000 - maxDepth; !json.Valid([]byte(strings.Repeat("[", wrapping) + string(b) + strings.Repeat("]", wrapping))) {
		return nil, fmt.Errorf("the metadata is nested more than %d levels deep", maxDepth)
	}
	return normalized, normalized.UnmarshalJSON(b)
}

// contains reports whether m contains all entries of subset, which must be normalized.
func (m Metadata) contains(subset Metadata) bool {
	for k, v := range subset {
		if got, ok := m[k]; !ok || icecat.Canonical(got) != icecat.Canonical(v) {
			return false
		}
	}
	return true
}

// MetadataChange sets and removes metadata keys.
type MetadataChange struct {
	Set     Metadata `json:"set,omitempty"`
	Remove  []string `json:"remove,omitempty"`  // keys to remove; missing keys are ignored
	Replace bool     `json:"replace,omitempty"` // remove all keys that are not in Set
}

func (c MetadataChange) apply(old map[string]any) (map[string]any, error) {
	result := maps.Clone(old)
	if result == nil || c.Replace {
		result = map[string]any{}
	}
	maps.Copy(result, c.Set)
	for _, k := range c.Remove {
		delete(result, k)
	}
	return Metadata(result).normalize()
}

// UpdatedKey is the metadata key under which listings return the time of a table's last change.
const UpdatedKey = icecat.UpdatedKey
