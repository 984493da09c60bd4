package logstore

import "github.com/go-partd/partd/internal/segment"

// What a Scan notes of the entries that it groups, and how it goes through them again.

// parse returns the entry at an offset, and the place of its key.
func (sc *scanner) parse(data []byte, at int) (e segment.Entry, keyAt int, err error) {
	e, ok := segment.ParseShort(data[at:])
	if !ok {
		if e, err = segment.ParseEntry(data[at:]); err != nil {
			return e, 0, err
		}
	}
	return e, at + len(e.Raw) - len(e.Value) - len(e.Key), nil
}

func groupedEntry(e *segment.Entry, group uint32, keyAt int) grouped {
	return grouped{group, uint32(keyAt + len(e.Key)), uint32(len(e.Value)), e.Kind == segment.KindBlob}
}

// maxGrouped is how many entries are noted at once. What is noted of one, and of
// its key, may be a dozen times as long as the entry.
func (sc *scanner) maxGrouped() int { return int(sc.limit / 128) }

// each calls f for all entries, many at a time, in order; from is the place of
// the first of them.
func (sc *scanner) each(data []byte, f func(from int, list []grouped) error) error {
	if err := f(0, sc.entries); err != nil {
		return err
	}
	var buf [128]grouped
	for at, from := sc.rest, len(sc.entries); at < len(data); {
		list := buf[:0]
		for at < len(data) && len(list) < len(buf) {
			e, keyAt, err := sc.parse(data, at)
			if err != nil {
				return err
			}
			list = append(list, groupedEntry(&e, sc.find(data, e.Key, uint32(keyAt), sc.s.format.HashBytes(e.Key)), keyAt))
			at += len(e.Raw)
		}
		if err := f(from, list); err != nil {
			return err
		}
		from += len(list)
	}
	return nil
}
