package standalone

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/remora-backup/remora/internal/remora"
)

// temporalArgs is the single-process mode with a state file that survives kill -9 and power cuts.
func (h *house) temporalArgs() []string {
	args := []string{
		"server", "start-dev", "--ip", h.host, "--port", strconv.Itoa(h.port), "--ui-port", strconv.Itoa(h.uiPort),
		"--db-filename", filepath.Join(h.cfg.State, "temporal", stateFile),
		"--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=FULL",
		"--namespace", h.cfg.Namespace, "--log-level", "error",
		"--disable-config-file", "--disable-config-env",
	}
	for _, name := range []string{remora.SourceAttribute, remora.KindAttribute, remora.ActorAttribute, remora.OutcomeAttribute} {
		args = append(args, "--search-attribute", name+"=Keyword")
	}
	return args
}

// temporalEnv is what of our environment Temporal needs; passwords are not among it. It does not call home.
func temporalEnv(getenv func(string) string) []string {
	env := []string{"TEMPORAL_VERSION_CHECK_DISABLED=1"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LANG", "TZ"} {
		if v := getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// callTimeout bounds one question to a server on this machine.
const callTimeout = 5 * time.Second

// ask connects and asks one question.
func (h *house) ask(ctx context.Context, question func(context.Context, client.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := client.DialContext(ctx, client.Options{
		HostPort: h.cfg.Address, Namespace: h.cfg.Namespace, Logger: temporallog.NewStructuredLogger(h.cfg.Log),
	})
	if err != nil {
		return err
	}
	defer c.Close()
	return question(ctx, c)
}

// retention is how long finished runs stay visible in Temporal; what must be known for longer is in the repository.
const retention = 90 * 24 * time.Hour

// temporalReady returns nil once the server answers for our namespace, and keeps its histories: it makes it with one day.
func (h *house) temporalReady(ctx context.Context, _ time.Time) error {
	return h.ask(ctx, func(ctx context.Context, c client.Client) error {
		found, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: h.cfg.Namespace})
		if err != nil || found.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration() >= retention {
			return err
		}
		_, err = c.WorkflowService().UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
			Namespace: h.cfg.Namespace,
			Config:    &namespace.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(retention)},
		})
		return err
	})
}

// workerReady returns nil once a worker that was started at that time, or later, takes work from our queues.
func (h *house) workerReady(ctx context.Context, started time.Time) error {
	return h.ask(ctx, func(ctx context.Context, c client.Client) error {
		for queue, kind := range map[string]enums.TaskQueueType{
			remora.Queue:     enums.TASK_QUEUE_TYPE_WORKFLOW,
			remora.DataQueue: enums.TASK_QUEUE_TYPE_ACTIVITY,
		} {
			found, err := c.WorkflowService().DescribeTaskQueue(ctx, &workflowservice.DescribeTaskQueueRequest{
				Namespace: h.cfg.Namespace, TaskQueue: &taskqueue.TaskQueue{Name: queue}, TaskQueueType: kind,
			})
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(found.GetPollers(), func(p *taskqueue.PollerInfo) bool { return p.GetLastAccessTime().AsTime().After(started) }) {
				return fmt.Errorf("queue %s: no worker takes work from it", queue)
			}
		}
		return nil
	})
}
