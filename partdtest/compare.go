package partdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// model is the expected content of a store: each existing key with its value.
type model map[string]string

func (m model) append(entries ...partd.Entry) {
	for _, e := range entries {
		if len(e.Value) > 0 {
			m[strings.Clone(e.Key)] += string(e.Value) // the caller may reuse the key's memory
		}
	}
}

func (m model) delete(keys ...string) {
	for _, k := range keys {
		delete(m, k)
	}
}

// compare reads the store with Get and with every ability in can. It returns an error if the content
// differs from want.
func compare(ctx context.Context, store partd.Partd, can map[Ability]bool, want model) error {
	keys := slices.Sorted(maps.Keys(want))
	requested := append(slices.Clip(keys), "a key that no check creates")
	values, err := store.Get(ctx, requested...)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if len(values) != len(requested) {
		return fmt.Errorf("get of %d keys returned %d values", len(requested), len(values))
	}
	for i, k := range requested {
		if err := differenceError("get of key "+storekit.QuoteKey(k), values[i], want[k]); err != nil {
			return err
		}
	}
	for _, c := range comparisons {
		if can[c.ability] {
			if err := c.compare(ctx, store, want); err != nil {
				return err
			}
		}
	}
	return nil
}

// comparisons lists the ways to read a store that require an ability.
var comparisons = []struct {
	ability Ability
	compare func(ctx context.Context, store partd.Partd, want model) error
}{{CanList, compareKeys}, {CanScan, compareScan}, {CanStat, compareStat}, {CanList, compareHas}}

// compareHas checks Has for two keys with values, two keys with empty values, and a missing key.
func compareHas(ctx context.Context, store partd.Partd, want model) error {
	const keysPerKind = 2
	checked := map[bool]int{} // number of keys checked so far, by whether the value is empty
	check := func(key string) error {
		_, exists := want[key]
		got, err := partd.Has(ctx, store, key)
		if err != nil {
			return fmt.Errorf("calling Has with key %s: %w", storekit.QuoteKey(key), err)
		}
		if got != exists {
			return fmt.Errorf("calling Has with key %s returned %v, want %v", storekit.QuoteKey(key), got, exists)
		}
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if empty := want[k] == ""; checked[empty] < keysPerKind {
			checked[empty]++
			if err := check(k); err != nil {
				return err
			}
		}
	}
	return check("a key that no check creates")
}

func compareKeys(ctx context.Context, store partd.Partd, want model) error {
	sizes, err := listKeys(ctx, store)
	if err != nil {
		return err
	}
	if err := sameKeys("keys", sizes, want); err != nil {
		return err
	}
	for k, size := range sizes {
		if size != int64(len(want[k])) {
			return fmt.Errorf("keys: key %s has size %d, want %d", storekit.QuoteKey(k), size, len(want[k]))
		}
	}
	return nil
}

func compareScan(ctx context.Context, store partd.Partd, want model) error {
	values, err := scanAll(ctx, store)
	if err != nil {
		return err
	}
	return sameContent("scan", values, want)
}

func compareStat(ctx context.Context, store partd.Partd, want model) error {
	stats, err := partd.Stat(ctx, store)
	if err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	total := 0
	for _, v := range want {
		total += len(v)
	}
	if stats.Keys != int64(len(want)) || stats.Bytes != int64(total) {
		return fmt.Errorf("stat: %d keys with %d bytes, want %d with %d", stats.Keys, stats.Bytes, len(want), total)
	}
	return nil
}

// differenceError returns an error that shows where got and want differ first, or nil if they are equal.
func differenceError(label string, got []byte, want string) error {
	if string(got) == want {
		return nil
	}
	diff := 0
	for diff < len(got) && diff < len(want) && got[diff] == want[diff] {
		diff++
	}
	start := max(0, diff-20)
	return fmt.Errorf("%s: %d bytes, want %d; the first difference is at byte %d: %q, want %q",
		label, len(got), len(want), diff, got[start:min(len(got), diff+40)], want[start:min(len(want), diff+40)])
}

func sameContent(label string, got map[string][]byte, want model) error {
	if err := sameKeys(label, got, want); err != nil {
		return err
	}
	return sameValues(label, got, want)
}

func sameValues(label string, got map[string][]byte, want model) error {
	for k, v := range got {
		if err := differenceError(label+", key "+storekit.QuoteKey(k), v, want[k]); err != nil {
			return err
		}
	}
	return nil
}

func sameKeys[V any](label string, got map[string]V, want model) error {
	for k := range want {
		if _, ok := got[k]; !ok {
			return fmt.Errorf("%s: key %s is missing", label, storekit.QuoteKey(k))
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			return fmt.Errorf("%s: key %s should not exist", label, storekit.QuoteKey(k))
		}
	}
	return nil
}

// listKeys returns the size of each key that Keys yields. Keys must not yield a key twice or
// continue after an error.
func listKeys(ctx context.Context, store partd.Partd) (map[string]int64, error) {
	sizes := map[string]int64{}
	return sizes, each("Keys", partd.Keys(ctx, store), func(info partd.KeyInfo) error {
		if _, ok := sizes[info.Key]; ok {
			return fmt.Errorf("the Keys iterator yields key %s twice", storekit.QuoteKey(info.Key))
		}
		sizes[info.Key] = info.Size
		return nil
	})
}

func scanAll(ctx context.Context, store partd.Partd) (map[string][]byte, error) {
	values := map[string][]byte{}
	return values, scanInto(values, partd.Scan(ctx, store))
}

// scanParts scans the parts with the given indexes and returns all their values. It returns an error if
// two parts contain the same key.
func scanParts(ctx context.Context, store partd.Partd, parts int, indexes iter.Seq[int]) (map[string][]byte, error) {
	values := map[string][]byte{}
	for part := range indexes {
		partValues := map[string][]byte{}
		if err := scanInto(partValues, partd.ScanPart(ctx, store, part, parts)); err != nil {
			return nil, fmt.Errorf("part %d of %d: %w", part, parts, err)
		}
		for k, v := range partValues {
			if _, exists := values[k]; exists {
				return nil, fmt.Errorf("key %s is in part %[3]d of %[2]d and in another part", storekit.QuoteKey(k), parts, part)
			}
			values[k] = v
		}
	}
	return values, nil
}

// scanInto appends each chunk to its key's value. It returns an error if the order or the offsets of
// the chunks are wrong.
func scanInto(values map[string][]byte, chunks iter.Seq2[partd.Chunk, error]) error {
	current, isPartial := "", false // the latest chunk's key, and whether more of its chunks must follow
	err := each("Scan", chunks, func(chunk partd.Chunk) error {
		value, seen := values[chunk.Key]
		switch {
		case isPartial && chunk.Key != current:
			return fmt.Errorf("scan: key %s comes before the Last chunk of key %s", storekit.QuoteKey(chunk.Key), storekit.QuoteKey(current))
		case !isPartial && seen:
			return fmt.Errorf("scan: key %s occurs again after its Last chunk", storekit.QuoteKey(chunk.Key))
		case chunk.Offset != int64(len(value)):
			return fmt.Errorf("scan: key %s has a chunk at offset %d after %d bytes", storekit.QuoteKey(chunk.Key), chunk.Offset, len(value))
		case len(chunk.Data) == 0 && !chunk.Last:
			return fmt.Errorf("scan: key %s has an empty chunk at offset %d that is not its Last", storekit.QuoteKey(chunk.Key), chunk.Offset)
		}
		values[chunk.Key] = append(value, chunk.Data...) // Data is valid only until the next iteration
		current, isPartial = chunk.Key, !chunk.Last
		return nil
	})
	if err == nil && isPartial {
		return fmt.Errorf("scan: key %s has no Last chunk", storekit.QuoteKey(current))
	}
	return err
}

// openAll reads a value through Open, size bytes at a time.
func openAll(ctx context.Context, store partd.Partd, key string, size int) ([]byte, error) {
	r, err := partd.Open(ctx, store, key)
	if err != nil {
		return nil, fmt.Errorf("open of key %s: %w", storekit.QuoteKey(key), err)
	}
	return readAll(r, key, size)
}

func readAll(r io.ReadCloser, key string, size int) ([]byte, error) {
	var value bytes.Buffer
	_, err := io.CopyBuffer(struct{ io.Writer }{&value}, struct{ io.Reader }{r}, make([]byte, size))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("reading key %s with Open: %w", storekit.QuoteKey(key), err)
	}
	return value.Bytes(), nil
}
