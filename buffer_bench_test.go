package partd

import "testing"

func BenchmarkBufferAppend(b *testing.B) {
	benchAppend(b, 1000, func() Partd {
		f, err := OpenFile(b.TempDir(), nil)
		if err != nil {
			b.Fatal(err)
		}
		buf, err := NewBuffer(NewDict(), f, &BufferOptions{Memory: 256 << 20})
		if err != nil {
			b.Fatal(err)
		}
		return buf
	})
}
