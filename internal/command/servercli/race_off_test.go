//go:build !race

package servercli_test

const withRace = false
