package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/registry"
)

func newPrune(s *session) *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:     "prune",
		Short:   "Free what no container of the store needs",
		GroupID: groupContainers,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.withClient(cmd, &flags, func(client *registry.Client) error {
				report, err := client.Store().Prune(cmd.Context())
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(s.stdout, "removed %d blobs, %s\n", report.Blobs, size(report.Bytes))
				return err
			})
		},
	}
	flags.register(cmd.Flags())
	return cmd
}
