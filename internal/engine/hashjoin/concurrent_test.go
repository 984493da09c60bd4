package hashjoin

import "testing"

// TestKeysIndexedAtOnce indexes many small tables in which each worker has records of the same keys. If two workers
// insert a key at the same time, its records must be in one list.
func TestKeysIndexedAtOnce(t *testing.T) {
	for round := range 400 {
		table := New(64<<20, threads)
		key := []byte{byte(round), 0}
		const keys = 100
		for worker := range threads {
			for i := range keys {
				key[1] = byte(i)
				if fits, err := table.Add(worker, key, []byte{byte(worker)}); err != nil || !fits {
					t.Fatal(fits, err)
				}
			}
		}
		if err := table.Index(); err != nil {
			t.Fatal(err)
		}
		f := Finder{Table: table}
		for i := range keys {
			key[1] = byte(i)
			position, sum := f.Find([][]byte{key})[0], 0
			if err := table.Each(position, func(record []byte) error { sum += 1 << record[0]; return nil }); err != nil || sum != 1<<threads-1 {
				t.Fatalf("round %d: the records of key %d are of the workers %b, %v, want all %d workers", round, i, sum, err, threads)
			}
		}
		if err := table.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
