package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// services are the commands that have commands of their own under kiwi-ng's names.
func services() []string { return []string{"system", "image"} }

// commandFirst puts flags that stand before the command behind it, where they are known: kiwi-ng has its global options there, as in
//
//	kiwi-ng --profile A --type oem system build ...
//
// Flags of the program itself, which are known everywhere, stay.
func commandFirst(root *cobra.Command, args []string) []string {
	var own, moved, words []string
	rest := args
	for len(rest) > 0 && rest[0] != "--" {
		word := rest[0]
		if !strings.HasPrefix(word, "-") {
			words, rest = append(words, word), rest[1:]
			if !slices.Contains(services(), word) || len(words) > 1 {
				break
			}
			continue
		}
		flag, n := root.PersistentFlags().Lookup(flagName(word)), 1
		known := flag != nil
		if !known {
			flag = commandFlag(root, flagName(word))
		}
		if flag != nil && flag.NoOptDefVal == "" && !strings.Contains(word, "=") {
			n = min(2, len(rest))
		}
		switch {
		case len(words) > 0 || !known && flag != nil:
			moved = append(moved, rest[:n]...)
		default:
			own = append(own, rest[:n]...)
		}
		rest = rest[n:]
	}
	return slices.Concat(own, words, moved, rest)
}

func flagName(word string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
	return name
}

// commandFlag returns the flag of this name that building commands have, nil if they have none.
func commandFlag(root *cobra.Command, name string) *pflag.Flag {
	for _, cmd := range root.Commands() {
		if flag := cmd.Flags().Lookup(name); flag != nil && cmd.Name() == "build" {
			return flag
		}
	}
	return nil
}
