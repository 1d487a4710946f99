package main

import (
	"fmt"

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
