package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/registry"
)

func newPush(s *session) *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "push NAME[:TAG] DESTINATION",
		Short: "Send a container to a registry or into an archive",
		Example: `  imgbuild push web registry.example.org/trees/web:2026-11
  imgbuild push web oci-archive:web.tar:web
  imgbuild push web containers-storage:web`,
		GroupID: groupContainers,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.withClient(cmd, &flags, func(client *registry.Client) error {
				digest, err := client.Push(cmd.Context(), args[0], args[1])
				if err != nil {
					return err
				}
				if digest == "" { // a docker archive has none
					_, err = fmt.Fprintln(s.stdout, args[1])
					return err
				}
				_, err = fmt.Fprintf(s.stdout, "%s\n%s\n", args[1], digest)
				return err
			})
		},
	}
	flags.registerRemote(cmd.Flags())
	return cmd
}
