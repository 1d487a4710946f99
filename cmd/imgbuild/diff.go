package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/layers"
)

func newDiff(s *session) *cobra.Command {
	var flags lookFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Show in which files two images or containers differ",
		Long: `Show what would have to change in A to make it B: + for what only B has, - for what only A has, and
c, with what differs, for the rest. A and B are files with images of any type, directories with root trees
(with a slash in the name), or containers.`,
		Example: `  imgbuild diff debian:11 debian:12
  imgbuild diff debian:12 out/web.x86_64-1.0.0.qcow2
  imgbuild diff old.raw new.raw`,
		DisableFlagsInUseLine: true,
		GroupID:               groupContainers,
		Args:                  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.look(cmd, &flags, args[0], func(tree *layers.Tree, path string) error {
				a, err := below(tree, path)
				if err != nil {
					return err
				}
				return s.look(cmd, &flags, args[1], func(tree *layers.Tree, path string) error {
					b, err := below(tree, path)
					if err != nil {
						return err
					}
					differences, err := layers.Diff(cmd.Context(), a, b)
					if err != nil {
						return fmt.Errorf("comparing %s with %s: %w", args[0], args[1], err)
					}
					return s.showDifferences(differences, asJSON)
				})
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
