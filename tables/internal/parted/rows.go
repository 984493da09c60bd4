package parted

import (
	"bytes"

	"github.com/apache/arrow-go/v18/arrow"
)

// KeyAppender returns a function that appends the key of a row's value. Keys must not be prefixes of other keys.
type KeyAppender func(a arrow.Array) func(key []byte, row int) ([]byte, error)

// NumberRows returns the result of number for the key of each row. It does not call number again if the row before has an
// equal key: row is the index of the first of adjacent rows with equal keys. The key is valid until number returns.
func NumberRows(b arrow.RecordBatch, columns []int, appender KeyAppender, number func(key []byte, row int) int) ([]int, error) {
	appends := make([]func(key []byte, row int) ([]byte, error), len(columns))
	for i, c := range columns {
		appends[i] = appender(b.Column(c))
	}
	var key, last []byte
	numbers := make([]int, b.NumRows())
	for row := range numbers {
		key = key[:0]
		for _, f := range appends {
			var err error
			key, err = f(key, row)
			if err != nil {
				return nil, err
			}
		}
		if row > 0 && bytes.Equal(key, last) {
			numbers[row] = numbers[row-1]
			continue
		}
		numbers[row] = number(key, row)
		key, last = last, key
	}
	return numbers, nil
}

// Group consists of the rows of a block that have the same number.
type Group struct {
	Number int
	Rows   []int // indices of the rows, in order
}

// GroupRows returns the groups of rows in the order of their numbers, which are less than n.
func GroupRows(numbers []int, n int) (groups []Group) {
	ends := make([]int, n+1)
	for _, number := range numbers {
		ends[number+1]++
	}
	for i := range n {
		ends[i+1] += ends[i]
	}
	order := make([]int, len(numbers))
	starts := ends[:n]
	for row, number := range numbers {
		order[starts[number]] = row
		starts[number]++ // after the loop, this is the end of the group
	}
	start := 0
	for number, end := range starts {
		if end > start {
			groups = append(groups, Group{number, order[start:end:end]})
		}
		start = end
	}
	return groups
}
