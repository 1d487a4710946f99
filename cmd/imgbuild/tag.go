package main

import (
	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/registry"
)

func newTag(s *session) *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:     "tag NAME[:TAG] NEW[:TAG]",
		Short:   "Give a container a further name",
		GroupID: groupContainers,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.withClient(cmd, &flags, func(client *registry.Client) error {
				return client.Store().Tag(cmd.Context(), args[0], args[1])
			})
		},
	}
	flags.register(cmd.Flags())
	return cmd
}

func newRemove(s *session) *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:     "rm NAME[:TAG]...",
		Short:   "Remove names from the store",
		Long:    "Remove names from the store. What no name leads to any longer is freed by 'imgbuild prune'.",
		GroupID: groupContainers,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.withClient(cmd, &flags, func(client *registry.Client) error {
				for _, name := range args {
					if err := client.Store().Remove(cmd.Context(), name); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	flags.register(cmd.Flags())
	return cmd
}
