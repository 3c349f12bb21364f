"""What the fake simulator's functions about frames, joints, the arm and its sensors do (see fake_coppeliasim.py)."""

from __future__ import annotations

import numpy as np

from tests.envs.fake_scene import JOINT, from_quaternion, picture, quaternion, rotation

SUCCESS_METRES = 0.05
NOT_REACHED, REACHED = 2, 1  # simCheckIkGroup's results


class Motion:
    """Part of ``fake_coppeliasim.Lib``, whose attributes these functions use."""

    # frames

    def _relative(self, handle: int, to: int) -> np.ndarray:
        return np.linalg.inv(self._frame(to)) @ self._frame(handle)

    def _place(self, handle: int, to: int, frame: np.ndarray) -> int:
        self._world.place(self._world.things[handle], self._frame(to) @ frame)
        return 1

    def _simGetObjectPosition(self, handle, to, out):
        out[0:3] = list(self._relative(handle, to)[:3, 3])
        return 1

    def _simSetObjectPosition(self, handle, to, position):
        frame = self._relative(handle, to)
        frame[:3, 3] = list(position)
        return self._place(handle, to, frame)

    def _simGetObjectQuaternion(self, handle, to, out):
        out[0:4] = list(quaternion(self._relative(handle, to)))
        return 1

    def _simSetObjectQuaternion(self, handle, to, q):
        frame = from_quaternion(list(q))
        frame[:3, 3] = self._relative(handle, to)[:3, 3]
        return self._place(handle, to, frame)

    def _simGetObjectOrientation(self, handle, to, out):
        m = self._relative(handle, to)
        out[0:3] = [
            np.arctan2(-m[1, 2], m[2, 2]),
            np.arcsin(np.clip(m[0, 2], -1, 1)),
            np.arctan2(-m[0, 1], m[0, 0]),
        ]
        return 1

    def _simSetObjectOrientation(self, handle, to, euler):
        a, b, c = euler
        frame = rotation(0, a) @ rotation(1, b) @ rotation(2, c)
        frame[:3, 3] = self._relative(handle, to)[:3, 3]
        return self._place(handle, to, frame)

    def _simGetObjectMatrix(self, handle, to, out):
        out[0:12] = list(self._relative(handle, to)[:3].ravel())
        return 1

    def _simSetObjectMatrix(self, handle, to, matrix):
        return self._place(handle, to, np.vstack([np.reshape(list(matrix), (3, 4)), [0, 0, 0, 1]]))

    def _simRotateAroundAxis(self, matrix, axis, position, angle, out):
        if angle != 0:
            raise NotImplementedError("the fake simulator turns nothing about an axis")
        out[0:12] = list(matrix)
        return 1

    # joints

    def _simGetJointPosition(self, handle, out):
        out[0] = self._world.things[handle].value
        return 1

    def _simSetJointPosition(self, handle, position):
        self._world.things[handle].value = position
        return 1

    def _simSetJointTargetPosition(self, handle, position):
        if not np.isfinite(position):
            raise ValueError("a joint was sent to NaN")
        self._world.things[handle].target = position
        return 1

    def _simSetJointTargetVelocity(self, handle, velocity):
        self._world.things[handle].speed = velocity
        return 1

    def _simGetJointInterval(self, handle, cyclic, out):
        low, high = self._world.things[handle].interval
        out[0:2] = [low, high - low] if self._world.things[handle].kind != JOINT else [low, high]
        return 1

    # the arm

    def _simCheckIkGroup(self, group, count, handles, values, options):
        world = self._world
        goal = world.frame(world.target)
        far = np.linalg.norm(goal[:3, 3] - world.frame(world.tip)[:3, 3]) > self.ik_reach
        found = None if far else world.solve(goal, [j.value for j in world.joints])
        if found is None:
            return NOT_REACHED
        values[0:count] = list(found)
        return REACHED

    def _simGenerateIkPath(self, group, count, handles, points, pairs, collisions, options, reserved):
        self.planned.append(pairs > 0)
        world = self._world
        start, goal = world.frame(world.tip), world.frame(world.target)
        if self.path_fails or (pairs and self.collides):
            return self._ffi.NULL
        one, other = quaternion(start), quaternion(goal)
        other = other * (np.sign(one @ other) or 1)
        q, path = [j.value for j in world.joints], []
        for share in np.linspace(0, 1, points):
            frame = from_quaternion((1 - share) * one + share * other)
            frame[:3, 3] = (1 - share) * start[:3, 3] + share * goal[:3, 3]
            q = world.solve(frame, q)
            if q is None:
                return self._ffi.NULL
            path.extend(q)
        return self._keep(self._ffi.new("float[]", path))

    def _simGetConfigForTipPose(self, *arguments):
        return 0  # the sampler finds nothing: what no straight path leads to is out of reach here

    def _simRMLPos(self, joints, step, flags, present, limits, selection, goal, options):
        self._moves[len(self._moves)] = [0.0, limits[0], goal[0]]
        return len(self._moves) - 1

    def _simRMLStep(self, handle, step, out, options, more):
        move = self._moves[handle]
        move[0] = min(move[0] + move[1] * step, move[2])
        out[0] = move[0]
        return int(move[0] >= move[2])

    def _simRMLRemove(self, handle):
        return 1

    def _simAddDrawingObject(self, *arguments):
        return 1

    def _simAddDrawingObjectItem(self, handle, item):
        return 1

    # sensors

    def _simCheckProximitySensor(self, sensor, other, point):
        if self._world.things[sensor].name != "success":
            return 0
        apart = self._frame(sensor)[:3, 3] - self._frame(other)[:3, 3]
        return int(np.linalg.norm(apart) < SUCCESS_METRES)

    def _simReadForceSensor(self, handle, force, torque):
        return 1

    def _simCheckCollision(self, one, other):
        return int(self.collides and other == -2)

    def _simSetExplicitHandling(self, handle, flags):
        return 1

    def _simGetExplicitHandling(self, handle):
        return 1

    def _simGetVisionSensorResolution(self, handle, out):
        integers = self._world.things[handle].integers
        out[0:2] = [integers[1002], integers[1003]]
        return 1

    def _simHandleVisionSensor(self, handle, values, counts):
        thing = self._world.things[handle]
        self.rendered[thing.name] += 1
        self._images[handle] = picture(self._world, thing)
        values[0], counts[0] = self._keep(self._ffi.new("float[1]")), self._keep(self._ffi.new("int[1]"))
        return 0

    def _simGetVisionSensorImage(self, handle):
        upside_down = np.ascontiguousarray(self._images[handle][::-1])
        return self._keep(self._ffi.new("float[]", upside_down.ravel().tolist()))
