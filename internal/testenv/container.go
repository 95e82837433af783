package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

// engineVariable chooses what servers run in: "process", "docker", or, when empty, containers of the images that an
// engine has, and processes for all else. Only "docker" fetches an image.
const engineVariable = "REMORA_TEST_ENGINE"

// ownerLabel names the directory of the test binary that a container belongs to.
const ownerLabel = "remora.test"

// images are those of docker-compose.yml, and the same versions that tools/ pins.
var images = map[string]string{
	"mysql":         "mysql:9.7.4",
	"mariadb-11.8":  "mariadb:11.8",
	"mariadb-10.11": "mariadb:10.11",
	"temporal":      "temporalio/temporal:1.5.1",
	"minio":         "minio/minio:RELEASE.2025-09-07T16-13-09Z",
	"versitygw":     "versity/versitygw:v1.8.0",
}

// engine connects to the engine, once; nil when none answers or none is wanted.
var engine = sync.OnceValue(func() client.APIClient {
	if os.Getenv(engineVariable) == "process" {
		return nil
	}
	// Its helper container would end ours with this binary. We do that ourselves, and need no image for it.
	_ = os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
	log.SetDefault(log.NewNoopLogger())
	provider, err := testcontainers.NewDockerProvider()
	if err != nil || !strings.HasPrefix(provider.Client().DaemonHost(), "unix:") { // else it sees other directories than we do
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := provider.Client().Ping(ctx, client.PingOptions{}); err != nil {
		return nil
	}
	return provider.Client()
})

// image is what a server is to run from; empty when it is to be a process.
func image(server string) (string, error) {
	wanted := os.Getenv(engineVariable) == "docker"
	if engine() == nil {
		if wanted {
			return "", errors.New("no engine answers, see DOCKER_HOST")
		}
		return "", nil
	}
	if _, err := engine().ImageInspect(context.Background(), images[server]); err != nil && !wanted {
		return "", nil
	}
	return images[server], nil
}

// contained is a server in a container. It sees the network of this machine and its own directory under the same names
// as a process does, and runs as the same user: so all that tests know about a server holds for both.
type contained struct {
	*testcontainers.DockerContainer
}

func (e *environment) contain(image, dir string, environ []string, program string, args ...string) (server, error) {
	variables := map[string]string{}
	for _, one := range environ {
		name, value, _ := strings.Cut(one, "=")
		variables[name] = value
	}
	name, _, _ := strings.Cut(filepath.Base(program), "-") // without the version
	c, err := testcontainers.Run(context.Background(), image, testcontainers.CustomizeRequest(testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{
			Entrypoint: []string{name}, Cmd: args, Env: variables, Labels: map[string]string{ownerLabel: e.dir},
			ConfigModifier: func(c *container.Config) { c.User = fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()) },
			HostConfigModifier: func(h *container.HostConfig) {
				h.NetworkMode, h.Binds = "host", []string{dir + ":" + dir}
			},
		},
	}))
	if c == nil {
		return nil, err
	}
	s := contained{c}
	if err != nil {
		s.kill()
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running = append(e.running, s)
	return s, nil
}

func (c contained) kill() { removeContainer(c.GetContainerID()) }

// removeContainer kills it, and returns when it is gone.
func removeContainer(id string) {
	_, err := engine().ContainerRemove(context.Background(), id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !strings.Contains(err.Error(), "No such container") {
		fmt.Fprintln(os.Stderr, "testenv:", err)
	}
}

func (c contained) alive() error {
	state, err := c.State(context.Background())
	if err == nil && state.Running {
		return nil
	}
	said := []byte(nil)
	if logs, err := c.Logs(context.Background()); err == nil {
		said, _ = io.ReadAll(io.LimitReader(logs, 64<<10))
		_ = logs.Close()
	}
	return givenUp{fmt.Errorf("container %s ended: %w\n%s", c.Image, err, said[max(0, len(said)-4096):])}
}

// removeContainers removes what the binary with this directory left.
func removeContainers(dir string) {
	if engine() == nil {
		return
	}
	left, err := engine().ContainerList(context.Background(), client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", ownerLabel+"="+dir),
	})
	if err != nil {
		return
	}
	for _, c := range left.Items {
		removeContainer(c.ID)
	}
}
