package pickle

import (
	"errors"
	"fmt"
	"strconv"
)

// memory does the instructions of the memo, which keeps values under numbers to
// use them again. It returns false for another instruction.
func (r *reader) memory(op byte) (known bool, err error) {
	switch op {
	case opMemoize:
		return true, r.put(uint64(len(r.memo) + len(r.others)))
	case opPut, opGet:
		line, err := r.line()
		if err != nil {
			return true, err
		}
		n, err := strconv.ParseUint(string(line), 10, 63)
		if err != nil {
			return true, fmt.Errorf("%.20q is no number of the memo", line)
		}
		return true, r.remember(n, op == opPut)
	case opBinPut, opBinGet:
		n, err := r.byte()
		if err != nil {
			return true, err
		}
		return true, r.remember(uint64(n), op == opBinPut)
	case opLongBinPut, opLongBinGet:
		n, err := r.number(4)
		if err != nil {
			return true, err
		}
		return true, r.remember(n, op == opLongBinPut)
	}
	return false, nil
}

func (r *reader) remember(n uint64, put bool) error {
	if put {
		return r.put(n)
	}
	if n < uint64(len(r.memo)) {
		r.push(r.memo[n])
		return nil
	}
	v, ok := r.others[n]
	if !ok {
		return fmt.Errorf("nothing was put into the memo under %d", n)
	}
	r.push(v)
	return nil
}

// put keeps the value on top of the stack, which stays there.
func (r *reader) put(n uint64) error {
	if len(r.stack) <= r.floor() {
		return errors.New("nothing to put into the memo")
	}
	v := r.stack[len(r.stack)-1]
	switch {
	case n < uint64(len(r.memo)):
		r.memo[n] = v
	case n == uint64(len(r.memo)) && len(r.others) == 0:
		r.memo = append(r.memo, v)
	default:
		// A number out of order takes no more memory than another.
		if r.others == nil {
			r.others = make(map[uint64]any)
		}
		r.others[n] = v
	}
	return nil
}
