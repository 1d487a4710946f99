package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/registry"
)

// fetchFlags say where containers that are named may come from.
type fetchFlags struct {
	storeFlags
	from []string
	pull string
}

func (f *fetchFlags) register(flags *pflag.FlagSet) {
	f.registerRemote(flags)
	f.registerPlatform(flags)
	flags.StringArrayVar(&f.from, "from-registry", nil, "the `registry` (host[:port][/path]) to look for names without one in; repeatable, tried in order")
	flags.StringVar(&f.pull, "pull", string(registry.PullMissing), "when to ask a registry: missing, always or never")
}

func (f *fetchFlags) options() (registry.FetchOptions, error) {
	if err := oneOf("pull", f.pull, string(registry.PullMissing), string(registry.PullAlways), string(registry.PullNever)); err != nil {
		return registry.FetchOptions{}, err
	}
	return registry.FetchOptions{From: f.from, Pull: registry.Policy(f.pull), Platform: f.platform}, nil
}

func newPull(s *session) *cobra.Command {
	var flags fetchFlags
	cmd := &cobra.Command{
		Use:     "pull NAME[:TAG]...",
		Short:   "Fetch containers into the store",
		Example: "  imgbuild pull registry.example.org/debian:12\n  imgbuild pull --platform linux/arm64 docker://registry.example.org/debian:12",
		GroupID: groupContainers,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := flags.options()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("pull") {
				opts.Pull = registry.PullAlways
			}
			return s.withClient(cmd, &flags.storeFlags, func(client *registry.Client) error {
				for _, name := range args {
					image, err := client.Pull(cmd.Context(), name, opts)
					if err != nil {
						return err
					}
					fmt.Fprintf(s.stdout, "%s\n%s\n", image.Name, image.Digest)
				}
				return nil
			})
		},
	}
	flags.register(cmd.Flags())
	return cmd
}
