// Command gendoc writes docs/faults.md: gendoc REPORT PAGE.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/hactl/had/internal/lab/faults"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: gendoc REPORT PAGE")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	all, err := faults.Read(bytes.NewReader(data))
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := faults.Page(&page, all); err != nil {
		return err
	}
	return os.WriteFile(args[1], page.Bytes(), 0o644)
}
