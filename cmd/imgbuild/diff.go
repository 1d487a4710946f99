package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry"
)

func newDiff(s *session) *cobra.Command {
	var flags fetchFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff A[:TAG] B[:TAG]",
		Short: "Show in which files two containers differ",
		Long: `Show what would have to change in A to make it B: + for what only B has, - for what only A has, and
c, with what differs, for the rest.`,
		GroupID: groupContainers,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := flags.options()
			if err != nil {
				return err
			}
			return s.withClient(cmd, &flags.storeFlags, func(client *registry.Client) error {
				a, err := s.openTree(cmd.Context(), client, args[0], opts)
				if err != nil {
					return err
				}
				defer a.Close()
				b, err := s.openTree(cmd.Context(), client, args[1], opts)
				if err != nil {
					return err
				}
				defer b.Close()
				differences, err := layers.Diff(cmd.Context(), a.Tree, b.Tree)
				if err != nil {
					return fmt.Errorf("comparing %s with %s: %w", args[0], args[1], err)
				}
				return s.showDifferences(differences, asJSON)
			})
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// difference is one difference as diff --json shows it.
type difference struct {
	Path string   `json:"path"`
	Kind string   `json:"kind"` // added, removed or changed
	What []string `json:"what,omitempty"`
}

func (s *session) showDifferences(differences []layers.Difference, asJSON bool) error {
	if asJSON {
		list := make([]difference, len(differences))
		for i, d := range differences {
			list[i] = difference{"/" + d.Path, d.Kind.String(), d.What}
		}
		return s.writeJSON(list)
	}
	for _, d := range differences {
		line := map[layers.DifferenceKind]string{layers.Added: "+", layers.Removed: "-", layers.Changed: "c"}[d.Kind] + " " + printable("/"+d.Path)
		if len(d.What) > 0 {
			line += "  " + strings.Join(d.What, ", ")
		}
		if _, err := fmt.Fprintln(s.stdout, line); err != nil {
			return err
		}
	}
	return nil
}
