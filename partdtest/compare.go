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

	"github.com/go-partd/partd"
)

// model is the expected content of a store: each existing key with its value.
type model map[string]string

// compare reads a store in every supported way, and returns an error if it differs from a model.
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
		if err := differenceError("get of key "+partd.QuoteKey(k), values[i], want[k]); err != nil {
			return err
		}
	}
	for _, a := range []Ability{CanList, CanScan, CanStat} {
		if can[a] {
			if err := compareAs(ctx, store, a, want); err != nil {
				return err
			}
		}
	}
	if can[CanList] {
		return compareHas(ctx, store, want)
	}
	return nil
}

// compareHas compares the result of Has for some keys: the first ones, the first with empty values,
// and a missing one.
func compareHas(ctx context.Context, store partd.Partd, want model) error {
	const minCount = 2
	seen := map[bool]int{} // by whether the value is empty
	check := func(key string) error {
		_, exists := want[key]
		got, err := partd.Has(ctx, store, key)
		if err != nil {
			return fmt.Errorf("has key %s: %w", partd.QuoteKey(key), err)
		}
		if got != exists {
			return fmt.Errorf("has key %s: %v, want %v", partd.QuoteKey(key), got, exists)
		}
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if empty := want[k] == ""; seen[empty] < minCount {
			seen[empty]++
			if err := check(k); err != nil {
				return err
			}
		}
	}
	return check("a key that no check creates")
}

// compareAs compares by Keys, by Scan or by Stat.
func compareAs(ctx context.Context, store partd.Partd, by Ability, want model) error {
	switch by {
	case CanList:
		sizes, err := listKeys(ctx, store)
		if err != nil {
			return err
		}
		if err := sameKeys("keys", sizes, want); err != nil {
			return err
		}
		for k, size := range sizes {
			if size != int64(len(want[k])) {
				return fmt.Errorf("keys: key %s has size %d, want %d", partd.QuoteKey(k), size, len(want[k]))
			}
		}
	case CanScan:
		all, err := scanAll(ctx, store)
		if err != nil {
			return err
		}
		if err := sameKeys("scan", all, want); err != nil {
			return err
		}
		for k, v := range all {
			if err := differenceError("scan, key "+partd.QuoteKey(k), v, want[k]); err != nil {
				return err
			}
		}
	case CanStat:
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
	}
	return nil
}

// differenceError returns an error that shows where a value is wrong.
func differenceError(label string, got []byte, want string) error {
	if string(got) == want {
		return nil
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	from := max(0, at-20)
	return fmt.Errorf("%s: %d bytes, want %d; they differ first at byte %d: %q, want %q",
		label, len(got), len(want), at, got[from:min(len(got), at+40)], want[from:min(len(want), at+40)])
}

func sameKeys[V any](label string, got map[string]V, want model) error {
	for k := range want {
		if _, ok := got[k]; !ok {
			return fmt.Errorf("%s: key %s is missing", label, partd.QuoteKey(k))
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			return fmt.Errorf("%s: key %s should not exist", label, partd.QuoteKey(k))
		}
	}
	return nil
}

// listKeys collects the keys that Keys yields, and checks its rules.
func listKeys(ctx context.Context, store partd.Partd) (map[string]int64, error) {
	sizes := map[string]int64{}
	var failed error
	for info, err := range partd.Keys(ctx, store) {
		if failed != nil {
			return nil, fmt.Errorf("keys continues after its error %q", failed)
		}
		if err != nil {
			failed = err
			continue
		}
		if _, ok := sizes[info.Key]; ok {
			return nil, fmt.Errorf("keys yields key %s twice", partd.QuoteKey(info.Key))
		}
		sizes[info.Key] = info.Size
	}
	if failed != nil {
		return nil, fmt.Errorf("keys: %w", failed)
	}
	return sizes, nil
}

// scanAll collects the values that Scan yields, and checks its rules.
func scanAll(ctx context.Context, store partd.Partd) (map[string][]byte, error) {
	all := map[string][]byte{}
	return all, scanInto(all, partd.Scan(ctx, store))
}

// scanParts collects the values that ScanPart yields for the parts in some, and checks that no key is
// in two of them.
func scanParts(ctx context.Context, store partd.Partd, parts int, indexes iter.Seq[int]) (map[string][]byte, error) {
	all := map[string][]byte{}
	for part := range indexes {
		content := map[string][]byte{}
		if err := scanInto(content, partd.ScanPart(ctx, store, part, parts)); err != nil {
			return nil, fmt.Errorf("part %d of %d: %w", part, parts, err)
		}
		for k, v := range content {
			if _, twice := all[k]; twice {
				return nil, fmt.Errorf("key %s is in two parts of %d; one is %d", partd.QuoteKey(k), parts, part)
			}
			all[k] = v
		}
	}
	return all, nil
}

// allParts yields all part numbers.
func allParts(parts int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for part := range parts {
			if !yield(part) {
				return
			}
		}
	}
}

// scanInto adds chunks to all by key, and checks the rules of Scan.
func scanInto(all map[string][]byte, chunks iter.Seq2[partd.Chunk, error]) error {
	var failed error
	current, isPartial := "", false // the key whose Last chunk is missing
	for chunk, err := range chunks {
		if failed != nil {
			return fmt.Errorf("scan continues after its error %q", failed)
		}
		if err != nil {
			failed = err
			continue
		}
		value, seen := all[chunk.Key]
		switch {
		case isPartial && chunk.Key != current:
			return fmt.Errorf("scan: key %s comes before the Last chunk of key %s", partd.QuoteKey(chunk.Key), partd.QuoteKey(current))
		case !isPartial && seen:
			return fmt.Errorf("scan: key %s occurs again after its Last chunk", partd.QuoteKey(chunk.Key))
		case chunk.Offset != int64(len(value)):
			return fmt.Errorf("scan: key %s has a chunk at offset %d after %d bytes", partd.QuoteKey(chunk.Key), chunk.Offset, len(value))
		case len(chunk.Data) == 0 && !chunk.Last:
			return fmt.Errorf("scan: key %s has an empty chunk at offset %d that is not its Last", partd.QuoteKey(chunk.Key), chunk.Offset)
		}
		all[chunk.Key] = append(value, chunk.Data...) // copied, because Data is valid until the next step
		current, isPartial = chunk.Key, !chunk.Last
	}
	if failed != nil {
		return fmt.Errorf("scan: %w", failed)
	}
	if isPartial {
		return fmt.Errorf("scan: key %s has no Last chunk", partd.QuoteKey(current))
	}
	return nil
}

// openAll reads a value through Open, in reads of the given size.
func openAll(ctx context.Context, store partd.Partd, key string, size int) ([]byte, error) {
	r, err := partd.Open(ctx, store, key)
	if err != nil {
		return nil, fmt.Errorf("open of key %s: %w", partd.QuoteKey(key), err)
	}
	return readAll(r, key, size)
}

func readAll(r io.ReadCloser, key string, size int) ([]byte, error) {
	var all bytes.Buffer
	_, err := io.CopyBuffer(struct{ io.Writer }{&all}, struct{ io.Reader }{r}, make([]byte, size))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("reading key %s with Open: %w", partd.QuoteKey(key), err)
	}
	return all.Bytes(), nil
}
