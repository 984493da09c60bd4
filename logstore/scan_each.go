package logstore

// What a Scan notes of the entries that it groups, and how it goes through them again.

// parse returns the entry at an offset, and the place of its key.
func (sc *scanner) parse(data []byte, at int) (e entry, keyAt int, err error) {
	e, ok := parseShort(data[at:])
	if !ok {
		if e, err = parseEntry(data[at:]); err != nil {
			return e, 0, err
		}
	}
	return e, at + len(e.raw) - len(e.value) - len(e.key), nil
}

func (e *entry) grouped(group uint32, keyAt int) grouped {
	return grouped{group, uint32(keyAt + len(e.key)), uint32(len(e.value)), e.kind == kindBlob}
}

// mostGrouped is how many entries are noted at once. What is noted of one, and of
// its key, may be a dozen times as long as the entry.
func (sc *scanner) mostGrouped() int { return int(sc.limit / 128) }

// each calls f for each entry in order.
func (sc *scanner) each(data []byte, f func(i int, e *grouped) error) error {
	for i := range sc.entries {
		if err := f(i, &sc.entries[i]); err != nil {
			return err
		}
	}
	for at, i := sc.rest, len(sc.entries); at < len(data); i++ {
		e, keyAt, err := sc.parse(data, at)
		if err != nil {
			return err
		}
		noted := e.grouped(sc.find(data, e.key, uint32(keyAt), sc.s.hashOfBytes(e.key)), keyAt)
		if err := f(i, &noted); err != nil {
			return err
		}
		at += len(e.raw)
	}
	return nil
}
