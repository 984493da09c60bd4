package main

import (
	"fmt"
	"strconv"
	"strings"
)

type numbers []int64

func (l *numbers) String() string {
	if l == nil {
		return ""
	}
	var texts []string
	for _, n := range *l {
		texts = append(texts, strconv.FormatInt(n, 10))
	}
	return strings.Join(texts, ",")
}

func (l *numbers) Set(text string) error {
	*l = nil
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a list of numbers such as 1000,100000", text)
		}
		*l = append(*l, n)
	}
	return nil
}

func withCommas(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
